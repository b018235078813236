import type { LowerBuilder } from '../../onnx/lower.js';
import { AnnealError } from '../errors.js';
import { type Applicable, checkDTypes, defineOp, floats, type OpCase } from '../op.js';
import { formatShape, sameShape, sizeOf, tryBroadcast } from '../shape.js';
import type { Node, Tensor } from '../tensor.js';
import { add, mul, neg, sub } from './elementwise.js';
import { concat, split } from './join.js';
import { matrix } from './masks.js';
import { unbroadcast } from './reduce.js';
import { slice } from './slice.js';
import { expandDims, reshape } from './view.js';

type RotaryAttributes = { interleaved: boolean };
const rotaryCases: readonly OpCase<RotaryAttributes>[] = [
  {
    inputs: [
      [2, 3, 4],
      [3, 2],
      [3, 2],
    ],
    attributes: { interleaved: false },
  },
  {
    inputs: [
      [1, 2, 3, 6],
      [3, 3],
      [3, 3],
    ],
    attributes: { interleaved: true },
  },
  // One table per row and token, shared by the heads.
  {
    inputs: [
      [2, 2, 3, 4],
      [2, 1, 3, 2],
      [2, 1, 3, 2],
    ],
    attributes: { interleaved: false },
  },
  // One position per row, as in a step of decoding; and the layout in which heads come last.
  {
    inputs: [
      [3, 2, 1, 4],
      [3, 1, 1, 2],
      [3, 1, 1, 2],
    ],
    attributes: { interleaved: false },
  },
  {
    inputs: [
      [2, 3, 2, 4],
      [3, 1, 2],
      [3, 1, 2],
    ],
    attributes: { interleaved: true },
  },
];

const rotaryOp: Applicable<RotaryAttributes> = defineOp<RotaryAttributes>({
  name: 'rotary',
  infer([x, cos, sin]) {
    checkDTypes([x!, cos!, sin!], floats);
    const half = [...x!.shape.slice(0, -1), x!.shape.at(-1)! / 2];
    const full = tryBroadcast(cos!.shape, half);
    const fits = full && sameShape(full, half) && cos!.shape.at(-1) === half.at(-1);
    if (!fits || !sameShape(sin!.shape, cos!.shape)) {
      throw new AnnealError(
        `the tables must be alike and broadcast to [..., length, size/2] = ${formatShape(half)}, with size/2 angles`,
      );
    }
    return [x!];
  },
  flops: (_inputs, _attributes, [y]) => 3 * sizeOf(y!.shape),
  decompose([x, cos, sin], { interleaved }) {
    const half = x!.shape.at(-1)! / 2;
    if (!interleaved) {
      const [a, b] = split(x!, 2, -1) as [Tensor, Tensor];
      return [concat([sub(mul(a, cos!), mul(b, sin!)), add(mul(b, cos!), mul(a, sin!))], x!.rank - 1)];
    }
    const pairs = reshape(x!, [...x!.shape.slice(0, -1), half, 2]);
    const [a, b] = split(pairs, 2, -1).map((t) => reshape(t, [...x!.shape.slice(0, -1), half])) as [
      Tensor,
      Tensor,
    ];
    const turned = [sub(mul(a, cos!), mul(b, sin!)), add(mul(b, cos!), mul(a, sin!))].map((t) =>
      expandDims(t, -1),
    );
    return [reshape(concat(turned, -1), x!.shape)];
  },
  vjp({ inputs: [x, cos, sin], attributes, needs }, [g]) {
    if (!g) return [];
    // The rotation is orthogonal: its transpose turns by the opposite angle.
    const dx = needs(0) ? rotaryOp.apply([g, cos!, neg(sin!)], attributes)[0]! : undefined;
    if (!needs(1) && !needs(2)) return [dx];
    const [a, b] = halves(x!, attributes);
    const [ga, gb] = halves(g, attributes);
    return [
      dx,
      unbroadcast(add(mul(ga, a), mul(gb, b)), cos!.shape),
      unbroadcast(sub(mul(gb, a), mul(ga, b)), sin!.shape),
    ];
  },
  lower: lowerRotary,
  cases: rotaryCases,
});

/**
 * ONNX Runtime's RotaryEmbedding takes tables [positions, size/2] and a number of a position per token: token t of
 * row b has its own row of the tables, or row t where all rows of x share them.
 */
function lowerRotary(b: LowerBuilder, node: Node, { interleaved }: RotaryAttributes): boolean {
  const [x, table] = node.inputs as [Tensor, Tensor];
  if (!b.allowsMicrosoft || x.dtype !== 'float32' || x.rank !== 4 || x.size === 0) return false;
  const [rows, , length, size] = x.shape as [number, number, number, number];
  const isShared = sameShape(table.shape, [length, size / 2]);
  const isOwn = sameShape(table.shape, [rows, 1, length, size / 2]);
  if (!isShared && !isOwn) return false;
  const flat = (name: string) => (isOwn ? b.emit('Reshape', [name, b.ints([-1, size / 2])]) : name);
  const tokens = Array.from({ length: rows * length }, (_, i) => i);
  const positions = isOwn ? b.vectorOf(tokens, 'int64', [rows, length]) : b.vectorOf([0], 'int64');
  b.resultMicrosoft('RotaryEmbedding', [b.inputs[0]!, positions, flat(b.inputs[1]!), flat(b.inputs[2]!)], {
    interleaved,
  });
  return true;
}

/** The two coordinates of each rotated plane. */
function halves(x: Tensor, { interleaved }: RotaryAttributes): [Tensor, Tensor] {
  if (!interleaved) return split(x, 2, -1) as [Tensor, Tensor];
  const all = x.shape.slice(0, -1).map(() => null);
  return [slice(x, [...all, [0, null, 2]]), slice(x, [...all, [1, null, 2]])];
}

/**
 * Rotary position embedding (Su et al. 2021) of x [..., length, size], turned by the angles whose cosines and
 * sines broadcast to [..., length, size/2]: tables [length, size/2] serve every row and head alike, tables
 * [B, 1, length, size/2] give each token of x [B, H, length, size] a position of its own. `interleaved` pairs
 * neighbours (2i, 2i+1); the default pairs i with i + size/2.
 */
export const rotary = (x: Tensor, cos: Tensor, sin: Tensor, interleaved = false): Tensor =>
  rotaryOp.apply([x, cos, sin], { interleaved })[0]!;

/** Tables of `rotary` for positions start … start+length-1: angle(p, i) = p · base^(-2i/size). */
export function rotaryTables(
  length: number,
  size: number,
  base = 10000,
  start = 0,
): { cos: Tensor; sin: Tensor } {
  const angle = (p: number, i: number) => (start + p) * base ** ((-2 * i) / size);
  return {
    cos: matrix(length, size / 2, 'float32', (p, i) => Math.cos(angle(p, i))),
    sin: matrix(length, size / 2, 'float32', (p, i) => Math.sin(angle(p, i))),
  };
}
