import { AnnealError } from '../core/errors.js';

const twoTo32 = 2 ** 32;

/** Protobuf lengths are signed 32-bit integers in every reader that matters, ONNX Runtime's included. */
const largestMessage = 2 ** 31 - 1;

const replacementCharacter = 0xfffd;

/** Wire types: how a reader that does not know a field finds its end. */
const varint = 0;
const fixed64 = 1;
const lengthDelimited = 2;
const fixed32 = 5;

/**
 * Writes one protobuf message from its last byte to its first.
 *
 * A nested message is preceded by its length, which is unknown until the message is written. Writing
 * backwards makes the length known at the moment it is needed, so nothing is measured twice, moved or
 * padded, however deep the nesting. The price is that callers emit fields in reverse: repeated fields
 * last element first (their order is significant), other fields highest number first, so that the
 * finished bytes ascend as readers expect.
 *
 * A nested message is `const mark = writer.length; ...its fields...; writer.message(field, mark)`.
 *
 * @see https://protobuf.dev/programming-guides/encoding/
 */
export class ProtoWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  /** Index of the first written byte; everything below it is free. */
  #at: number;

  /** @param capacity bytes to reserve at once; the buffer doubles when they run out. */
  constructor(capacity = 1024) {
    const size = Math.max(16, capacity);
    checkSize(size);
    this.#bytes = new Uint8Array(size);
    this.#view = new DataView(this.#bytes.buffer);
    this.#at = size;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#bytes.length - this.#at;
  }

  /** Closes the nested message whose first field was written when `length` was `mark`. */
  message(field: number, mark: number): void {
    this.#unsigned(this.length - mark);
    this.#tag(field, lengthDelimited);
  }

  /** An int32, int64 or enum. `value` must be an integer of magnitude 2^53 or less. */
  int(field: number, value: number): void {
    this.#signed(value);
    this.#tag(field, varint);
  }

  /** A float, rounded to the nearest float32. */
  float(field: number, value: number): void {
    this.#fixed(value);
    this.#tag(field, fixed32);
  }

  /** A double. */
  double(field: number, value: number): void {
    this.#reserve(8);
    this.#at -= 8;
    this.#view.setFloat64(this.#at, value, true);
    this.#tag(field, fixed64);
  }

  /** A byte string, copied. */
  bytes(field: number, value: Uint8Array): void {
    this.#reserve(value.length);
    this.#at -= value.length;
    this.#bytes.set(value, this.#at);
    this.#unsigned(value.length);
    this.#tag(field, lengthDelimited);
  }

  /** A string in UTF-8. A lone surrogate, which UTF-8 cannot express, becomes U+FFFD as in TextEncoder. */
  string(field: number, value: string): void {
    const mark = this.length;
    // A UTF-16 unit takes three bytes at most: a pair of them takes four.
    this.#reserve(3 * value.length);
    const bytes = this.#bytes;
    let at = this.#at;
    for (let i = value.length - 1; i >= 0; i--) {
      const unit = value.charCodeAt(i);
      if (unit < 0x80) {
        bytes[--at] = unit;
        continue;
      }
      const point = codePointEndingAt(value, i);
      if (point > 0xffff) i--;
      at = writeCodePoint(bytes, at, point);
    }
    this.#at = at;
    this.message(field, mark);
  }

  /** A packed repeated int64; nothing when `values` is empty. The limits of `int` hold. */
  packedInts(field: number, values: readonly number[]): void {
    if (values.length === 0) return;
    const mark = this.length;
    for (let i = values.length - 1; i >= 0; i--) this.#signed(values[i]!);
    this.message(field, mark);
  }

  /** A packed repeated float; nothing when `values` is empty. */
  packedFloats(field: number, values: readonly number[]): void {
    if (values.length === 0) return;
    const mark = this.length;
    for (let i = values.length - 1; i >= 0; i--) this.#fixed(values[i]!);
    this.message(field, mark);
  }

  /** The message: a view into the writer's buffer, not a copy. Write nothing after it. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(this.#at);
  }

  #tag(field: number, wire: number): void {
    this.#unsigned((field << 3) | wire);
  }

  #fixed(value: number): void {
    this.#reserve(4);
    this.#at -= 4;
    this.#view.setFloat32(this.#at, value, true);
  }

  /** A varint of an integer in 0 .. 2^31 - 1: tags, lengths and nearly every int that a graph holds. */
  #unsigned(value: number): void {
    this.#reserve(5);
    if (value < 0x80) {
      this.#bytes[--this.#at] = value;
      return;
    }
    const size = value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
    let at = this.#at - size;
    this.#at = at;
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[at] = rest;
  }

  #signed(value: number): void {
    if (value >= 0 && value <= 0x7fffffff) {
      this.#unsigned(value);
      return;
    }
    // Two's complement in two 32-bit halves: `>>> 0` is the residue modulo 2^32, exact for any integer.
    let low = value >>> 0;
    let high = Math.floor(value / twoTo32) >>> 0;
    // Sign extension to 64 bits makes every negative number ten groups of seven bits long.
    let size = value < 0 ? 10 : 1;
    if (value >= 0) for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
    this.#reserve(size);
    let at = this.#at - size;
    this.#at = at;
    for (; size > 1; size--) {
      this.#bytes[at++] = (low & 0x7f) | 0x80;
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    this.#bytes[at] = low;
  }

  #reserve(count: number): void {
    if (this.#at < count) this.#grow(count);
  }

  #grow(count: number): void {
    const used = this.length;
    checkSize(used + count);
    const size = Math.min(largestMessage, Math.max(2 * this.#bytes.length, used + count));
    const bytes = new Uint8Array(size);
    bytes.set(this.#bytes.subarray(this.#at), size - used);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    this.#at = size - used;
  }
}

function checkSize(size: number): void {
  if (size <= largestMessage) return;
  throw new AnnealError(
    `a protobuf message of ${size} bytes exceeds the format's limit of ${largestMessage}; ` +
      'pass large tensors as inputs of the graph instead of initializers',
  );
}

/** The code point whose last UTF-16 unit is `text[index]`. */
function codePointEndingAt(text: string, index: number): number {
  const unit = text.charCodeAt(index);
  if (unit < 0xd800 || unit > 0xdfff) return unit;
  const before = index > 0 ? text.charCodeAt(index - 1) : 0;
  const isPair = unit >= 0xdc00 && before >= 0xd800 && before < 0xdc00;
  return isPair ? 0x10000 + ((before - 0xd800) << 10) + (unit - 0xdc00) : replacementCharacter;
}

/** Writes a code point above 0x7f so that it ends before `end`; returns where it starts. */
function writeCodePoint(bytes: Uint8Array, end: number, point: number): number {
  let at = end;
  bytes[--at] = 0x80 | (point & 0x3f);
  if (point < 0x800) {
    bytes[--at] = 0xc0 | (point >> 6);
    return at;
  }
  bytes[--at] = 0x80 | ((point >> 6) & 0x3f);
  if (point < 0x10000) {
    bytes[--at] = 0xe0 | (point >> 12);
    return at;
  }
  bytes[--at] = 0x80 | ((point >> 12) & 0x3f);
  bytes[--at] = 0xf0 | (point >> 18);
  return at;
}
