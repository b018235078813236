import { describe, expect, it } from 'vitest';
import { interpret, type Tensor, tensor, zeros } from '../../src/index.js';
import { attentionMask, documentVisible, prefixVisible } from '../../src/nn/index.js';

const ints = (rows: number[][] | number[]) => {
  const flat = rows.flat();
  return tensor(
    Int32Array.from(flat),
    Array.isArray(rows[0]) ? [rows.length, rows[0].length] : [flat.length],
  );
};

/** The matrices of a mask [B, 1, T, T], a row of text for each query: x where it sees the key. */
function picture(mask: Tensor, visible: (v: number) => boolean = (v) => v === 0): string[] {
  const [b, , t] = mask.shape as [number, number, number];
  const { data } = interpret([mask])[0]!;
  return Array.from({ length: b }, (_, i) =>
    Array.from({ length: t }, (_, q) =>
      Array.from({ length: t }, (_, k) => (visible(data[(i * t + q) * t + k]!) ? 'x' : '.')).join(''),
    ).join(' '),
  );
}

describe('attention masks', () => {
  it('of documents keep attention inside them', () => {
    expect(picture(documentVisible(ints([[0, 0, 1]])), Boolean)).toEqual(['xx. xx. ..x']);
    // Numbers need not be consecutive: equal means same document.
    expect(picture(documentVisible(ints([[7, 2, 7]])), Boolean)).toEqual(['x.x .x. x.x']);
  });

  it('of prefixes are complete squares', () => {
    expect(picture(prefixVisible(ints([2, 0, 3]), 3), Boolean)).toEqual([
      'xx. xx. ...',
      '... ... ...',
      'xxx xxx xxx',
    ]);
  });

  it('need no tensor where attention is plainly causal or plainly bidirectional', () => {
    expect(attentionMask(4, {})).toEqual({ causal: true, mask: undefined });
    expect(attentionMask(4, { causal: false })).toEqual({ causal: false, mask: undefined });
    // A prefix adds nothing to bidirectional attention.
    expect(attentionMask(4, { causal: false, prefix: ints([1]) }).mask).toBeUndefined();
    const mask = zeros([4, 4]);
    expect(attentionMask(4, { mask })).toEqual({ causal: true, mask });
  });

  it('combine: (causal or prefix) and same document, plus a mask of the caller', () => {
    const made = (options: Parameters<typeof attentionMask>[1], length = 3) => {
      const { causal, mask } = attentionMask(length, options);
      expect(causal).toBe(false);
      return mask!;
    };
    expect(picture(made({ documents: ints([[0, 0, 1]]) }))).toEqual(['x.. xx. ..x']);
    expect(picture(made({ prefix: ints([2, 3]) }))).toEqual(['xx. xx. xxx', 'xxx xxx xxx']);
    expect(picture(made({ documents: ints([[0, 1, 1]]), prefix: ints([2]) }))).toEqual(['x.. .x. .xx']);
    expect(picture(made({ documents: ints([[0, 1, 1]]), causal: false }))).toEqual(['x.. .xx .xx']);
    const own = tensor([
      [0, 0, 0],
      [-5, 0, 0],
      [0, 0, 2.5],
    ]);
    const { data } = interpret([made({ documents: ints([[0, 0, 1]]), mask: own })])[0]!;
    expect([data[3], data[4], data[8]]).toEqual([-5, 0, 2.5]);
    expect(data[1]).toBeLessThan(-1e8);
  });

  it('refuse inputs of other types and shapes', () => {
    expect(() => documentVisible(zeros([2, 3]))).toThrow(
      /documents must be int32\[2,3\], not float32\[2,3\]/,
    );
    expect(() => prefixVisible(zeros([2]), 3)).toThrow(/prefix must be int32\[2\], not float32\[2\]/);
  });
});
