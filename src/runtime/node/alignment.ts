import { type Koffi, loadKoffi } from './ort-api.js';

/** Bytes of a cache line. */
const lineBytes = 64n;

let koffi: Koffi | undefined | null = null;

/** Without koffi nothing native runs, and nobody needs to know. */
function koffiIfInstalled(): Koffi | undefined {
  try {
    return loadKoffi();
  } catch {
    return undefined;
  }
}

/** Bytes from where a buffer begins in memory to the next cache line; 0 where that cannot be known. */
export function bytesToLine(buffer: ArrayBuffer): number {
  if (koffi === null) koffi = koffiIfInstalled();
  if (!koffi) return 0;
  const address = koffi.address(new Uint8Array(buffer));
  return Number((lineBytes - (address % lineBytes)) % lineBytes);
}
