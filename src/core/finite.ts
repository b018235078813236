import type { TracedProgram } from './compile.js';
import { isFloat, type TypedArray } from './dtype.js';
import { AnnealError, atUserFrame } from './errors.js';
import { topological } from './graph.js';
import { cast, isNan, logicalNot, mul, where } from './ops/elementwise.js';
import { concat } from './ops/join.js';
import { max, sum } from './ops/reduce.js';
import { reshape } from './ops/view.js';
import { formatShape } from './shape.js';
import type { Tensor } from './tensor.js';

/** Name of the hidden output that carries the flags. */
const flagsName = 'anneal.nonFinite';

/**
 * Adds one flag per float tensor of the program: whether it holds a NaN or an infinity. Where any does,
 * every variable keeps its value.
 */
export function guardFinite(traced: TracedProgram): TracedProgram & { guards: readonly Tensor[] } {
  const roots = [...traced.outputs.values(), ...traced.assignments.values()];
  const guards = topological(roots).flatMap((node) =>
    node.op.name === 'constant' || node.op.view
      ? []
      : node.outputs.filter((t) => isFloat(t.dtype) && t.size > 0),
  );
  if (guards.length === 0) return { ...traced, guards };
  // x·0 is 0 for every finite x and NaN for the others.
  const flags = guards.map((t) => reshape(cast(isNan(sum(mul(t, 0))), 'float32'), [1]));
  const all = concat(flags);
  const good = logicalNot(cast(max(all), 'bool'));
  const assignments = new Map([...traced.assignments].map(([v, next]) => [v, where(good, next, v)]));
  return {
    inputs: traced.inputs,
    outputs: new Map([...traced.outputs, [flagsName, all]]),
    assignments,
    guards,
  };
}

/**
 * Reads the flags of a run.
 * @throws AnnealError that names the first op whose value is not finite, and the user's line.
 */
export function raiseNonFinite(
  guards: readonly Tensor[],
  names: readonly string[],
  arrays: readonly TypedArray[],
): void {
  if (guards.length === 0) return;
  const first = guards[arrays[names.indexOf(flagsName)]!.indexOf(1)];
  if (!first) return;
  const { op, payload, origin } = first.node;
  const what =
    op.name === 'input'
      ? `input "${String(payload)}"`
      : op.name === 'variable'
        ? `variable ${(payload as { name: string }).name}`
        : op.name;
  throw new AnnealError(
    `non-finite value first made by ${what} ${first.dtype}${formatShape(first.shape)}${atUserFrame(origin)}`,
  );
}
