/**
 * A seccomp filter, in the kernel's classic BPF, that leaves a program threads but no processes, no sockets and
 * none of the calls that widen the kernel's surface (tracing, mounting, namespaces, keys, BPF, io_uring).
 * Forbidden calls fail with EPERM, so that a program sees an ordinary error.
 *
 * Numbers: Linux arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (arm64).
 */
const forbidden: Record<string, readonly [x64: number, arm64: number]> = {
  socket: [41, 198],
  fork: [57, -1],
  vfork: [58, -1],
  ptrace: [101, 117],
  kill: [62, 129],
  tkill: [200, 130],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  kcmp: [312, 272],
  pidfd_getfd: [438, 438],
  unshare: [272, 97],
  setns: [308, 268],
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  move_mount: [429, 429],
  open_tree: [428, 428],
  fsopen: [430, 430],
  fsmount: [432, 432],
  mount_setattr: [442, 442],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  init_module: [175, 105],
  finit_module: [313, 273],
  kexec_load: [246, 104],
  reboot: [169, 142],
  swapon: [167, 224],
  syslog: [103, 116],
  quotactl: [179, 60],
  acct: [163, 89],
  open_by_handle_at: [304, 265],
};

const architectures = {
  // AUDIT_ARCH_*, number of clone.
  x64: { audit: 0xc000003e, clone: 56, column: 0 },
  arm64: { audit: 0xc00000b7, clone: 220, column: 1 },
} as const;

/** clone3 has the same number everywhere. Its flags lie behind a pointer, so it is absent and libc falls back. */
const clone3 = 435;

const threadFlag = 0x10000;
const errno = { EPERM: 1, ENOSYS: 38 };
const action = { allow: 0x7fff0000, kill: 0x80000000, error: (number: number) => 0x00050000 | number };
/** Opcodes: load a word of seccomp_data, jump if equal / not below / any bit set, return. */
const code = { load: 0x20, equal: 0x15, atLeast: 0x35, anyBit: 0x45, result: 0x06 };
/** Offsets in struct seccomp_data. */
const offset = { number: 0, architecture: 4, firstArgument: 16 };

/** Whether there is a filter for the processor. */
export const hasFilter = (architecture: string = process.arch): architecture is keyof typeof architectures =>
  architecture in architectures;

/** The filter as bubblewrap's `--seccomp` reads it: 8 bytes an instruction. */
export function seccompFilter(architecture: keyof typeof architectures): Buffer {
  const { audit, clone, column } = architectures[architecture];
  const instructions: [code: number, ifTrue: number, ifFalse: number, value: number][] = [];
  const add = (op: number, value: number, ifTrue = 0, ifFalse = 0) =>
    instructions.push([op, ifTrue, ifFalse, value]);
  add(code.load, offset.architecture);
  add(code.equal, audit, 1, 0);
  add(code.result, action.kill);
  add(code.load, offset.number);
  // x32 calls carry this bit and would pass a filter of x64 numbers.
  add(code.atLeast, 0x40000000, 0, 1);
  add(code.result, action.error(errno.EPERM));
  for (const numbers of Object.values(forbidden)) {
    if (numbers[column] < 0) continue;
    add(code.equal, numbers[column], 0, 1);
    add(code.result, action.error(errno.EPERM));
  }
  add(code.equal, clone3, 0, 1);
  add(code.result, action.error(errno.ENOSYS));
  add(code.equal, clone, 0, 3);
  add(code.load, offset.firstArgument);
  add(code.anyBit, threadFlag, 1, 0);
  add(code.result, action.error(errno.EPERM));
  add(code.result, action.allow);
  const bytes = Buffer.alloc(8 * instructions.length);
  instructions.forEach(([op, ifTrue, ifFalse, value], i) => {
    bytes.writeUInt16LE(op, 8 * i);
    bytes.writeUInt8(ifTrue, 8 * i + 2);
    bytes.writeUInt8(ifFalse, 8 * i + 3);
    bytes.writeUInt32LE(value >>> 0, 8 * i + 4);
  });
  return bytes;
}
