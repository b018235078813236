import { type Koffi, loadKoffi, type Pointer } from '../runtime/node/ort-api.js';

/** Takes machine code and returns the address at which it can be called. */
export type Installer = (code: Uint8Array) => Pointer;

const protection = { readWrite: 3, readExecute: 5 } as const;
/** MAP_PRIVATE | MAP_ANONYMOUS, which the systems number differently. */
const anonymous = { linux: 0x22, darwin: 0x1002 } as const;
const page = 4096;

/** Length in memory of `bytes` of code, in whole pages. */
export const pagesOf = (bytes: number): number => Math.ceil(bytes / page) * page;

/**
 * A function that puts code into fresh pages, which are first writable and then executable, never both.
 * The pages are never given back: sessions and threads that nobody can see may still run them.
 *
 * Throws an Error where the platform is not covered or refuses.
 */
export function codeInstaller(koffi: Koffi = loadKoffi()): Installer {
  const { platform, arch } = process;
  if (arch !== 'x64') throw new Error(`no code generator for ${arch}`);
  // Windows has other functions, and another calling convention, than the code here follows.
  if (platform !== 'linux' && platform !== 'darwin') throw new Error(`no code generator for ${platform}`);
  const flags = anonymous[platform];
  const libc = koffi.load(null);
  const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');
  const mprotect = libc.func('int mprotect(void *, size_t, int)');
  const munmap = libc.func('int munmap(void *, size_t)');
  const memcpy = libc.func('void *memcpy(void *, void *, size_t)');
  return (code) => {
    const length = pagesOf(code.length);
    const at = mmap(null, length, protection.readWrite, flags, -1, 0) as Pointer;
    if (BigInt.asIntN(64, at) === -1n) throw new Error('the system gives no memory for code');
    memcpy(at, code, code.length);
    if (mprotect(at, length, protection.readExecute) !== 0) {
      munmap(at, length);
      throw new Error('the system refuses executable memory');
    }
    return at;
  };
}
