import type { Assembler } from './assembler.js';
import type { InstructionName } from './instructions.js';

const steps: Readonly<Record<Assembler['set'], readonly [InstructionName, number][]>> = {
  avx512: [
    ['shuffle128', 0x4e],
    ['shuffle128', 0xb1],
    ['permute', 0x4e],
    ['permute', 0xb1],
  ],
  avx2: [
    ['permute128', 0x01],
    ['permute', 0x4e],
    ['permute', 0xb1],
  ],
};

/** Combines all lanes of a register and leaves the result in each. `other` is written over. */
export function acrossLanes(a: Assembler, operation: 'add' | 'max', register: number, other: number): void {
  for (const [name, immediate] of steps[a.set]) {
    const isPair = name !== 'permute';
    a.vector(name, other, isPair ? register : 0, register, { immediate });
    a.vector(operation, register, register, other);
  }
}
