/**
 * The fp32 FMA peak of this machine, measured with machine code that does nothing else.
 *
 * A compiler would do, but the library must not need one and neither should its benchmark; and a C loop with
 * barriers around its accumulators spills them to memory and reports a third of the truth. The loop below is
 * a block of independent fused multiply-adds on registers, more of them in flight (24 or 12) than the
 * latency of 4 to 5 cycles times two units asks for.
 */
import { execFileSync } from 'node:child_process';
import os from 'node:os';
import { fileURLToPath } from 'node:url';

/** Peak rates by number of threads. */
export interface Peak {
  instructionSet: 'AVX-512' | 'AVX2';
  /** GFLOP/s on one thread. */
  single: number;
  /** GFLOP/s with one thread on every core at once. */
  all: number;
  threads: number;
}

/** A peak, or why there is none. */
export type PeakResult = { peak: Peak; note: '' } | { peak: null; note: string };

/** SIMD flavour: register width in floats, VEX or EVEX, and how many accumulators fit beside two constants. */
interface Flavour {
  name: Peak['instructionSet'];
  lanes: number;
  accumulators: number;
  multiplier: number;
  addend: number;
}

const AVX512: Flavour = { name: 'AVX-512', lanes: 16, accumulators: 24, multiplier: 30, addend: 31 };
const AVX2: Flavour = { name: 'AVX2', lanes: 8, accumulators: 12, multiplier: 14, addend: 15 };

const BLOCKS_PER_ITERATION = 4;
const TARGET_MS = 40;

/** Opcode maps and prefixes as VEX and EVEX number them. */
const MAP_0F38 = 2;
const MAP_0F = 1;
const PREFIX_66 = 1;

/** `op reg, vvvv, rm` on 512-bit registers. */
function evex(map: number, opcode: number, reg: number, vvvv: number, rm: number): number[] {
  const inverted = (value: number, bit: number) => ((value >> bit) & 1) ^ 1;
  return [
    0x62,
    (inverted(reg, 3) << 7) | (inverted(rm, 4) << 6) | (inverted(rm, 3) << 5) | (inverted(reg, 4) << 4) | map,
    ((~vvvv & 15) << 3) | 4 | PREFIX_66,
    (2 << 5) | (inverted(vvvv, 4) << 3),
    opcode,
    0xc0 | ((reg & 7) << 3) | (rm & 7),
  ];
}

/** `op reg, vvvv, rm` on 128-bit (`wide` 0) or 256-bit (`wide` 1) registers. */
function vex(map: number, opcode: number, reg: number, vvvv: number, rm: number, wide: 0 | 1): number[] {
  const inverted = (value: number) => ((value >> 3) & 1) ^ 1;
  return [
    0xc4,
    (inverted(reg) << 7) | (1 << 6) | (inverted(rm) << 5) | map,
    ((~vvvv & 15) << 3) | (wide << 2) | PREFIX_66,
    opcode,
    0xc0 | ((reg & 7) << 3) | (rm & 7),
  ];
}

function int32Bytes(value: number): number[] {
  return [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255];
}

/** Fills every lane of a vector register with a float. */
function broadcast(flavour: Flavour, register: number, value: number): number[] {
  const bits = new Int32Array(Float32Array.of(value).buffer)[0]!;
  const toEax = [0xb8, ...int32Bytes(bits)];
  if (flavour === AVX512) return [...toEax, ...evex(MAP_0F38, 0x7c, register, 0, 0)];
  return [
    ...toEax,
    ...vex(MAP_0F, 0x6e, register, 0, 0, 0),
    ...vex(MAP_0F38, 0x18, register, 0, register, 1),
  ];
}

/**
 * `sched_setaffinity(0, 128, rsi)` as a Linux system call that keeps rdi. Without it the kernel may leave two
 * threads of a short run on one core while another stands idle, and report half the peak.
 */
const PIN_THREAD = [
  ...[0x57, 0x31, 0xff, 0x48, 0x89, 0xf2], // push rdi; edi = 0; rdx = rsi
  ...[0xbe, 128, 0, 0, 0, 0xb8, 203, 0, 0, 0, 0x0f, 0x05, 0x5f], // esi = 128; eax = 203; syscall; pop rdi
];

/**
 * `void loop(int64 iterations, uint64 *affinity)` in the System V convention, where every vector register
 * is scratch.
 */
function fmaLoop(flavour: Flavour): Uint8Array {
  const { accumulators, multiplier, addend } = flavour;
  const registers = Array.from({ length: accumulators }, (_, i) => i);
  // acc = acc * 0.999 + 0.001 stays near 1: no denormals, and as many bits toggle as in real work.
  const setup = [
    ...(process.platform === 'linux' ? PIN_THREAD : []),
    ...broadcast(flavour, multiplier, 0.999),
    ...broadcast(flavour, addend, 0.001),
    ...registers.flatMap((register) => broadcast(flavour, register, 1 + register / 64)),
  ];
  const fma = (register: number) =>
    flavour === AVX512
      ? evex(MAP_0F38, 0xa8, register, multiplier, addend)
      : vex(MAP_0F38, 0xa8, register, multiplier, addend, 1);
  const block = registers.flatMap(fma);
  const body = Array.from({ length: BLOCKS_PER_ITERATION }, () => block).flat();
  const decrement = [0x48, 0xff, 0xcf]; // dec rdi
  const jumpLength = 6;
  const back = -(body.length + decrement.length + jumpLength);
  const tail = [...decrement, 0x0f, 0x85, ...int32Bytes(back), 0xc5, 0xf8, 0x77, 0xc3]; // jnz; vzeroupper; ret
  return Uint8Array.from([...setup, ...body, ...tail]);
}

/** `void probe(uint32_t out[3])`: cpuid 7 EBX, cpuid 1 ECX, XCR0 (0 where the OS has not enabled it). */
const FEATURE_PROBE = Uint8Array.from([
  ...[0x53], // push rbx
  ...[0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0x1f], // eax = 7, ecx = 0; cpuid; [rdi] = ebx
  ...[0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x89, 0x4f, 4], // eax = 1; cpuid; [rdi + 4] = ecx
  ...[0xc7, 0x47, 8, 0, 0, 0, 0], // [rdi + 8] = 0
  ...[0x0f, 0xba, 0xe1, 27, 0x73, 8], // bit 27 of ecx, OSXSAVE; skip 8 bytes if clear
  ...[0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x89, 0x47, 8], // ecx = 0; xgetbv; [rdi + 8] = eax
  ...[0x5b, 0xc3], // pop rbx; ret
]);

function chooseFlavour(features: Uint32Array): Flavour | null {
  const [leaf7, leaf1, xcr0] = [features[0]!, features[1]!, features[2]!];
  const has = (word: number, bits: number) => (word & bits) >>> 0 === bits >>> 0;
  const avx512Bits = (1 << 16) | (1 << 17); // F and DQ
  if (has(leaf7, avx512Bits) && has(xcr0, 0xe6)) return AVX512;
  if (has(leaf7, 1 << 5) && has(leaf1, 1 << 12) && has(xcr0, 6)) return AVX2;
  return null;
}

/** A function in executable memory that can be called on the libuv pool. */
interface NativeLoop {
  async(iterations: number, affinity: BigUint64Array, done: (error: unknown) => void): void;
}

/** Copies code into fresh pages and makes them executable; they are never writable and executable at once. */
async function nativeInstaller() {
  const { default: koffi } = await import('koffi');
  const apple = process.platform === 'darwin';
  const libc = koffi.load(apple ? '/usr/lib/libSystem.B.dylib' : 'libc.so.6');
  const mmap = libc.func(
    'void *mmap(void *at, size_t length, int protection, int flags, int fd, int64 offset)',
  );
  const mprotect = libc.func('int mprotect(void *at, size_t length, int protection)');
  const PRIVATE_ANONYMOUS = apple ? 0x1002 : 0x22;
  return (code: Uint8Array, prototype: string) => {
    const length = Math.ceil(code.length / 4096) * 4096;
    const at = mmap(null, length, 3, PRIVATE_ANONYMOUS, -1, 0);
    new Uint8Array(koffi.view(at, length)).set(code);
    if (mprotect(at, length, 5) !== 0) throw new Error('the system refuses executable memory');
    return koffi.decode(at, koffi.proto(prototype));
  };
}

/** Wall milliseconds for `threads` simultaneous runs of the loop. */
async function timeLoop(loop: NativeLoop, threads: number, iterations: number): Promise<number> {
  const masks = Array.from({ length: threads }, (_, cpu) => {
    const mask = new BigUint64Array(new ArrayBuffer(128));
    mask[cpu >> 6] = 1n << BigInt(cpu & 63);
    return mask;
  });
  const start = performance.now();
  await Promise.all(
    masks.map(
      (mask) =>
        new Promise<void>((resolve, reject) =>
          loop.async(iterations, mask, (error) => (error ? reject(error) : resolve())),
        ),
    ),
  );
  return performance.now() - start;
}

/** Measures in this process. Needs a libuv pool of at least `threads`; the best of the repeats counts. */
async function measureHere(threads: number, repeats: number): Promise<PeakResult> {
  const install = await nativeInstaller();
  const features = new Uint32Array(new ArrayBuffer(128), 0, 3);
  install(FEATURE_PROBE, 'void annealProbe(uint32_t *out)')(features);
  const flavour = chooseFlavour(features);
  if (flavour === null) return { peak: null, note: 'this CPU has neither AVX-512 nor AVX2 with FMA' };
  const loop: NativeLoop = install(
    fmaLoop(flavour),
    'void annealFmaLoop(int64_t iterations, uint64_t *affinity)',
  );
  const flop = BLOCKS_PER_ITERATION * flavour.accumulators * flavour.lanes * 2;
  const probe = 200_000;
  await timeLoop(loop, threads, probe);
  const iterations = Math.ceil((probe * TARGET_MS) / (await timeLoop(loop, 1, probe)));
  const best = async (count: number) => {
    let shortest = Number.POSITIVE_INFINITY;
    for (let i = 0; i < repeats; i++) shortest = Math.min(shortest, await timeLoop(loop, count, iterations));
    return (count * iterations * flop) / shortest / 1e6;
  };
  const single = await best(1);
  return { peak: { instructionSet: flavour.name, single, all: await best(threads), threads }, note: '' };
}

/** The FMA peak on one core and on all of them, measured in a process of its own. */
export function measurePeak(repeats = 15): PeakResult {
  if (process.arch !== 'x64' || process.platform === 'win32') {
    return { peak: null, note: `no FMA loop for ${process.platform} on ${process.arch}` };
  }
  // The size of the libuv pool is fixed at its first use, so it has to come with the process.
  const threads = os.availableParallelism();
  const env = { ...process.env, UV_THREADPOOL_SIZE: String(Math.max(4, threads)) };
  const program = fileURLToPath(import.meta.url);
  try {
    return JSON.parse(
      execFileSync(process.execPath, [program, String(threads), String(repeats)], { env, encoding: 'utf8' }),
    );
  } catch (error) {
    return { peak: null, note: `the FMA loop did not run: ${(error as Error).message.split('\n')[0]}` };
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [threads = os.availableParallelism(), repeats = 15] = process.argv.slice(2).map(Number);
  process.stdout.write(`${JSON.stringify(await measureHere(threads, repeats))}\n`);
}
