import { type Assembler, Label, type Memory } from './assembler.js';

/** Constants behind the code: single floats for AVX-512, which spreads them while it reads; whole vectors for AVX2. */
export class ConstantPool {
  readonly #a: Assembler;
  readonly #labels = new Map<string, { label: Label; value: number }>();
  #masks: Label | undefined;

  constructor(assembler: Assembler) {
    this.#a = assembler;
  }

  /** The memory operand of a constant; AVX-512 instructions need `spread` with it. */
  at(value: number): Memory {
    const key = Object.is(value, -0) ? '-0' : String(value);
    let entry = this.#labels.get(key);
    if (!entry) {
      entry = { label: new Label(), value };
      this.#labels.set(key, entry);
    }
    return { at: entry.label };
  }

  /** Fills a register with a constant. */
  load(register: number, value: number): void {
    this.#a.vector(this.#a.set === 'avx512' ? 'broadcast' : 'load', register, 0, this.at(value));
  }

  /** Eight lanes of ones, then eight of zeros: AVX2's masks of any length lie between. */
  get tailMasks(): Label {
    this.#masks ??= new Label();
    return this.#masks;
  }

  /** Puts the constants here. */
  emit(): void {
    const a = this.#a;
    a.align(a.width);
    const lanes = a.set === 'avx512' ? 1 : 8;
    for (const { label, value } of this.#labels.values()) {
      a.bind(label);
      const bits = new Int32Array(Float32Array.of(value).buffer)[0]!;
      for (let i = 0; i < lanes; i++) a.int32(bits);
    }
    if (!this.#masks) return;
    a.bind(this.#masks);
    for (let i = 0; i < 16; i++) a.int32(i < 8 ? -1 : 0);
  }
}
