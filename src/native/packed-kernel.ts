import type { Memory } from './assembler.js';
import { gp, type InstructionSet } from './instructions.js';
import { type Field, localBytes, masks, type PackedCode, prefetched, tileOutputs } from './packed-layout.js';
import { RowQuantizer } from './packed-quantize.js';

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = gp;
const saved = [rbx, rbp, r12, r13, r14, r15];

/**
 * Machine code of `task(frame, index)` for x · Wᵀ in blocks along the inputs: W = scale · (q − zero) with zero in the
 * middle of the range, or W = scale · q + minimum.
 * frame: parameters, x [rows, inputs], q [outputs, blocks, bytes], scales [outputs, blocks], minima like them if there
 * are any, result [rows, outputs].
 *
 * A task takes some rows and some outputs. It rounds its rows to integers of 8 bits, ±127, in groups of 32 with a scale
 * each. Products of a block are sums of integers, hence exact; sums of products start at minus zero times those of
 * the activations, and minima cost one multiply-add for all blocks of a vector.
 */
export function compilePacked(code: PackedCode, set: InstructionSet, stackRows: number): Uint8Array {
  return new PackedCompiler(code, set, stackRows).compile();
}

class PackedCompiler extends RowQuantizer {
  compile(): Uint8Array {
    const a = this.a;
    for (const register of saved) a.push(register);
    a.mov(r15, rsp);
    a.addImmediate(rsp, -this.stack);
    a.andImmediate(rsp, -64);
    a.store(this.local('caller'), r15);
    this.#locate();
    this.quantizeRows();
    this.constants();
    this.#outputs();
    a.mov(rsp, this.local('caller'));
    a.zeroUpper();
    for (const register of [...saved].reverse()) a.pop(register);
    a.ret();
    a.align(64);
    for (const { label, bytes } of this.data) {
      a.bind(label);
      a.byte(...bytes);
    }
    return a.finish();
  }

  /** Finds the rows and outputs of the task: rbx is the frame, rbp the parameters, r12 and r13 the first output and row. */
  #locate(): void {
    const a = this.a;
    a.mov(rbx, rdi);
    a.mov(rbp, { base: rdi });
    a.mov(rax, rsi);
    a.zero(rdx);
    a.divide(this.parameter('outputBlocks'));
    a.mov(r12, rdx);
    a.imul(r12, this.parameter('outputBlock'));
    a.mov(r13, rax);
    a.imul(r13, this.parameter('rowBlock'));
    const atMost = (limit: 'rows' | 'outputs') => {
      a.mov(rcx, this.parameter(limit));
      a.cmp(rax, rcx);
      a.movIf('greater', rax, rcx);
    };
    a.lea(rax, { base: r12 });
    a.add(rax, this.parameter('outputBlock'));
    atMost('outputs');
    a.store(this.local('endOutput'), rax);
    a.lea(rax, { base: r13 });
    a.add(rax, this.parameter('rowBlock'));
    atMost('rows');
    a.sub(rax, r13);
    a.store(this.local('rows'), rax);
    a.mov(rax, r13);
    a.imul(rax, this.parameter('outputs'));
    a.shiftLeft(rax, 2);
    a.add(rax, { base: rbx, offset: 8 * (this.code.hasMinima ? 5 : 4) });
    a.store(this.local('result'), rax);
  }

  /** For every four outputs: all rows. The last four may overlap those before. */
  #outputs(): void {
    const a = this.a;
    const { weightRowBytes, blocks, scaleBytes } = this.layout;
    const next = a.here();
    a.mov(rax, this.parameter('outputs'));
    a.addImmediate(rax, -tileOutputs);
    a.cmp(rax, r12);
    a.movIf('greater', rax, r12);
    const place = (name: 'values' | 'scales' | 'minima', position: number, stride: number) => {
      a.movImmediate(rcx, stride);
      a.imul(rcx, rax);
      a.add(rcx, { base: rbx, offset: 8 * position });
      a.store(this.local(name), rcx);
    };
    place('values', 2, weightRowBytes);
    place('scales', 3, blocks * scaleBytes);
    if (this.code.hasMinima) place('minima', 4, blocks * scaleBytes);
    a.mov(rdi, this.local('result'));
    a.lea(rdi, { base: rdi, index: rax, scale: 4 });
    a.mov(rdx, this.parameter('outputs'));
    a.shiftLeft(rdx, 2);
    a.lea(r14, { base: rsp, offset: localBytes });
    a.mov(r13, this.local('rows'));
    // Most rows go four at a time (two with few registers).
    for (const rows of this.is512 ? [4, 2, 1] : [2, 1]) {
      const done = a.label();
      const again = a.here();
      a.cmpImmediate(r13, rows);
      a.jumpIf('less', done);
      this.#tile(rows);
      a.addImmediate(r14, rows * this.layout.rowBytes);
      a.addImmediate(r13, -rows);
      a.jump(again);
      a.bind(done);
    }
    a.addImmediate(r12, tileOutputs);
    a.cmp(r12, this.local('endOutput'));
    a.jumpIf('less', next);
  }

  /** Rows at r14 times the four outputs, to rdi, which moves on. */
  #tile(rows: number): void {
    const a = this.a;
    const { chunks, rest, width, chunkBytes, blocks, blocksPerChunk, scaleBytes } = this.layout;
    a.mov(r8, this.local('values'));
    a.mov(r9, this.local('scales'));
    if (this.code.hasMinima) a.mov(r10, this.local('minima'));
    a.mov(r11, r14);
    for (const base of this.code.hasMinima ? [r9, r10] : [r9]) {
      const bytes = tileOutputs * blocks * scaleBytes;
      for (let at = 0; at < bytes; at += 64) a.prefetch({ base, offset: this.#tilesAhead * bytes + at });
    }
    for (let i = 0; i < tileOutputs * rows; i++) a.vector('xor', i, i, i);
    if (chunks > 0) {
      a.movImmediate(rcx, chunks);
      a.align(32);
      const chunk = a.here();
      this.#chunk(rows, false);
      a.addImmediate(r8, width);
      a.addImmediate(r9, blocksPerChunk * scaleBytes);
      if (this.code.hasMinima) a.addImmediate(r10, blocksPerChunk * scaleBytes);
      a.addImmediate(r11, chunkBytes);
      a.addImmediate(rcx, -1);
      a.jumpIf('notEqual', chunk);
    }
    if (rest > 0) this.#chunk(rows, true);
    for (let row = 0; row < rows; row++) {
      this.#reduce(row);
      a.vector('store', tileOutputs * row, 0, { base: rdi }, { bits: 128 });
      a.add(rdi, rdx);
    }
  }

  /** Adds the products of one vector of weights of each output. */
  #chunk(rows: number, isLast: boolean): void {
    const a = this.a;
    const { bits, hasMinima } = this.code;
    const { offsets, rowBytes, weightRowBytes, blocks, scaleBytes } = this.layout;
    const first = this.is512 ? 16 : 8;
    const [low, high, scale, t, u] = [first, first + 1, first + 2, first + 3, first + 4] as const;
    const { bytes, lanes } = this.fixed;
    // Two rows fit into registers besides; of more, operands come from the first-level cache.
    const keeps = this.is512 && rows <= 2;
    const names = Object.keys(offsets) as Field[];
    const inMemory = (row: number, name: Field): Memory => ({
      base: r11,
      offset: row * rowBytes + offsets[name],
    });
    const inRegister = (row: number, name: Field) => (rows === 2 && row === 0 ? 8 : 20) + names.indexOf(name);
    const field = (row: number, name: Field) => (keeps ? inRegister(row, name) : inMemory(row, name));
    if (keeps) {
      for (let row = 0; row < rows; row++) {
        for (const name of names) a.vector('load', inRegister(row, name), 0, inMemory(row, name));
      }
    }
    for (let output = 0; output < tileOutputs; output++) {
      a.prefetch({ base: r8, offset: (output + tileOutputs * this.#tilesAhead) * weightRowBytes });
      this.#loadWeights(low, { base: r8, offset: output * weightRowBytes }, isLast);
      if (bits === 4) {
        a.vector('shiftIntsRight', 2, high, low, { immediate: 4 });
        a.vector('and', low, low, bytes);
        a.vector('and', high, high, bytes);
      } else if (!this.is512) {
        a.vector('xor', low, low, bytes);
        a.vector('absBytes', high, 0, low);
      }
      this.#loadScales(scale, { base: r9, offset: output * blocks * scaleBytes }, isLast);
      a.vector('permuteLanes', scale, lanes, scale);
      for (let row = 0; row < rows; row++) {
        this.#dot(t, u, low, high, (name) => field(row, name));
        a.vector('fromInt', t, 0, t);
        a.vector('mul', t, t, scale);
        a.vector('fma231', tileOutputs * row + output, t, field(row, 'scale'));
      }
      if (!hasMinima) continue;
      this.#loadScales(low, { base: r10, offset: output * blocks * scaleBytes }, isLast);
      for (let row = 0; row < rows; row++)
        a.vector('fma231', tileOutputs * row + output, low, field(row, 'sums'));
    }
  }

  /** Tiles that lie between the one that is computed and the one that is asked for. */
  get #tilesAhead(): number {
    return Math.ceil(prefetched / (tileOutputs * this.layout.weightRowBytes));
  }

  #loadWeights(register: number, at: Memory, isLast: boolean): void {
    const a = this.a;
    if (!isLast) a.vector('load', register, 0, at);
    else if (this.is512) a.vector('load', register, 0, at, { mask: masks.lastWeights, zero: true });
    else a.vector('load', register, 0, at, { bits: 128 });
  }

  /** Scales (or minima) of the blocks of a chunk, in the lowest lanes; zeros, or what does not matter, above them. */
  #loadScales(register: number, at: Memory, isLast: boolean): void {
    const a = this.a;
    const { isHalf } = this.code;
    if (this.is512) {
      const mask = isLast ? masks.lastScales : masks.scales;
      a.vector(isHalf ? 'fromHalf' : 'load', register, 0, at, { bits: 128, mask, zero: true });
      return;
    }
    const isPair = this.layout.blocksPerChunk === 2 && !isLast;
    if (!isHalf) a.vector(isPair ? 'loadPair' : 'loadScalar', register, 0, at, { bits: 128 });
    else {
      a.vector(isPair ? 'loadScalar' : 'broadcastWord', register, 0, at, { bits: 128 });
      a.vector('fromHalf', register, 0, register, { bits: 128 });
    }
  }

  /** t = sums of four (or eight) integer products a lane. */
  #dot(t: number, u: number, low: number, high: number, field: (name: Field) => number | Memory): void {
    const a = this.a;
    const { bits } = this.code;
    const { ones } = this.fixed;
    if (this.is512) {
      if (this.layout.hasStart) a.vector('load', t, 0, field('start'));
      else a.vector('xor', t, t, t);
      a.vector('dotBytes', t, low, field('low'));
      if (bits === 4) a.vector('dotBytes', t, high, field('high'));
      return;
    }
    if (bits === 4) {
      // At most 4 · 15 · 128 in a word: nothing saturates.
      a.vector('mulAddBytes', t, low, field('low'));
      a.vector('mulAddBytes', u, high, field('high'));
      a.vector('addWords', t, t, u);
      a.vector('mulAddWords', t, t, ones);
      if (this.layout.hasStart) a.vector('addInt', t, t, field('start'));
    } else {
      // |w| times x with the sign of w: at most 2 · 128 · 127 in a word.
      a.vector('load', t, 0, field('low'));
      a.vector('signBytes', t, t, low);
      a.vector('mulAddBytes', t, high, t);
      a.vector('mulAddWords', t, t, ones);
    }
  }

  /** The lowest four lanes of a row's first register = the sums of its four registers. */
  #reduce(row: number): void {
    const a = this.a;
    const sum = tileOutputs * row;
    const t = this.is512 ? 16 : 8;
    for (const pair of [sum, sum + 2]) {
      a.vector('unpackLow', t, pair, pair + 1);
      a.vector('unpackHigh', t + 1, pair, pair + 1);
      a.vector('add', pair, t, t + 1);
    }
    a.vector('unpackLowPair', t, sum, sum + 2);
    a.vector('unpackHighPair', t + 1, sum, sum + 2);
    a.vector('add', sum, t, t + 1);
    if (this.is512) {
      for (const immediate of [0x4e, 0xb1]) {
        a.vector('shuffle128', t, sum, sum, { immediate });
        a.vector('add', sum, sum, t);
      }
    } else {
      a.vector('permute128', t, sum, sum, { immediate: 1 });
      a.vector('add', sum, sum, t);
    }
  }
}
