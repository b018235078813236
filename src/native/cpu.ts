import { type Koffi, loadKoffi, pointerArray } from '../runtime/node/ort-api.js';
import type { InstructionSet } from './instructions.js';
import { codeInstaller, type Installer } from './memory.js';

/** What this process can run, or why it cannot. */
export type Support =
  | {
      sets: readonly InstructionSet[];
      /** AVX-512 has the integer products of VNNI, too. */
      hasVnni: boolean;
      install: Installer;
      koffi: Koffi;
      reason?: undefined;
    }
  | { sets: readonly []; reason: string };

/** `mov eax, 42; ret`: the smallest function whose result shows that emitted code runs. */
const answer = Uint8Array.of(0xb8, 42, 0, 0, 0, 0xc3);

/** `void features(uint32_t out[4])`: EBX of cpuid leaf 7, ECX of leaf 1, XCR0 (0 where it cannot be read), ECX of leaf 7. */
const features = Uint8Array.from([
  ...[0x53], // push rbx
  ...[0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0x1f], // eax = 7; ecx = 0; cpuid; [rdi] = ebx
  ...[0x89, 0x4f, 12], // [rdi + 12] = ecx
  ...[0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0x4f, 4], // eax = 1; cpuid; [rdi + 4] = ecx
  ...[0xc7, 0x47, 8, 0, 0, 0, 0], // [rdi + 8] = 0
  ...[0x0f, 0xba, 0xe1, 27, 0x73, 8], // is OSXSAVE set? if not, skip 8 bytes
  ...[0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x89, 0x47, 8], // ecx = 0; xgetbv; [rdi + 8] = eax
  ...[0x5b, 0xc3], // pop rbx; ret
]);

const bits = (...numbers: readonly number[]) => numbers.reduce((mask, bit) => mask | (1 << bit), 0);
const has = (word: number, mask: number) => (word & mask) >>> 0 === mask >>> 0;

/** The instruction sets that the processor has and the system saves, the longest vectors first. */
export function instructionSets(leaf7: number, leaf1: number, xcr0: number): InstructionSet[] {
  const fma = has(leaf1, bits(12));
  const avx2 = fma && has(leaf7, bits(5)) && has(xcr0, 0b110);
  // F, DQ, BW and VL, which every AVX-512 processor since Skylake-X has together.
  const avx512 = avx2 && has(leaf7, bits(16, 17, 30, 31)) && has(xcr0, 0b11100110);
  return [...(avx512 ? (['avx512'] as const) : []), ...(avx2 ? (['avx2'] as const) : [])];
}

/**
 * Tries whether emitted code runs here: installs a function, calls it, compares. Whatever fails ends in a
 * reason, never in an exception.
 */
export function detectSupport(makeInstaller: (koffi: Koffi) => Installer = codeInstaller): Support {
  try {
    const koffi = loadKoffi();
    const install = makeInstaller(koffi);
    const call = (code: Uint8Array, result: string, parameters: readonly string[]) =>
      koffi.decode(install(code), koffi.proto(result, parameters)) as (...args: unknown[]) => unknown;
    const found = call(answer, 'int', [])();
    if (found !== 42) return { sets: [], reason: `a test function returned ${found} instead of 42` };
    const out = new Uint32Array(pointerArray(2).buffer, 0, 4);
    call(features, 'void', ['void *'])(out);
    const sets = instructionSets(out[0]!, out[1]!, out[2]!);
    if (sets.length === 0) return { sets: [], reason: 'the processor has neither AVX-512 nor AVX2 with FMA' };
    return { sets, hasVnni: sets[0] === 'avx512' && has(out[3]!, bits(11)), install, koffi };
  } catch (error) {
    return { sets: [], reason: (error as Error).message };
  }
}
