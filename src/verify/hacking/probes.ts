import type { CodeProblem } from '../code/problem.js';
import type { CodeVerifier } from '../code/verifier.js';
import { canonical, isPlain, type Json, sameValue, showWire, toWire, type Wire } from '../sandbox/plain.js';
import type { Reply } from '../sandbox/sandbox.js';
import { freshInputs } from './fresh-inputs.js';
import { testPairs } from './pairs.js';

/**
 * - `state`: the same input twice in one interpreter gives two results, as a program that counts its calls does;
 * - `order`: an input's result depends on the inputs before it;
 * - `fresh`: results on inputs like the tests' differ from the reference solution's;
 * - `constant`: fresh inputs all give the same result, though the tests' do not: nothing is computed;
 * - `types`: 2.0 for 2 changes the result: arguments are looked up by how they are written;
 * - `relation`: a relation between results does not hold.
 */
export type ProbeKind = 'state' | 'order' | 'fresh' | 'constant' | 'types' | 'relation';

export interface Probe {
  kind: ProbeKind;
  /** Of a relation. */
  name?: string;
  tried: number;
  failed: number;
  /** Enough failures for what an honest solution would not do. `types` never is: it is a hint. */
  suspicious: boolean;
  /** The first failure, each value cut to a line. */
  example?: { input: string; gave: string; instead: string };
}

export interface ProbeReport {
  probes: Probe[];
  suspicious: boolean;
}

/** A metamorphic relation: what must hold between a result and that for a changed input. */
export interface Relation {
  name: string;
  change(args: readonly Wire[]): Wire[];
  holds(before: Wire, after: Wire): boolean;
}

export interface ProbeOptions {
  /** A solution that is right; without it the probe `fresh` is left out. */
  reference?: string;
  /** Fresh inputs; default: made from the tests' own. */
  inputs?: readonly (readonly Json[])[];
  relations?: readonly Relation[];
  /** How many fresh inputs are made; default 20. */
  fresh?: number;
  /** Another seed, other inputs; default 0. */
  seed?: number;
  /** The response is the program. */
  raw?: boolean;
}

/** Results that can be compared; a fault or an odd object says nothing. */
const resultOf = (reply: Reply | undefined): Wire | undefined =>
  reply?.ok && isPlain(reply.value) ? reply.value : undefined;

/** Equal, or both not a number: a program that gives NaN twice is steady. */
const isSame = (a: Wire, b: Wire): boolean => sameValue(a, b) || canonical(a) === canonical(b);

/** Counts one probe, and keeps its first failure. */
class Tally {
  readonly #probe: Omit<Probe, 'suspicious'>;

  constructor(kind: ProbeKind, name?: string) {
    this.#probe = { kind, ...(name !== undefined && { name }), tried: 0, failed: 0 };
  }

  note(isFine: boolean, input: readonly Wire[], gave: Wire | undefined, instead: Wire | undefined): void {
    const probe = this.#probe;
    probe.tried++;
    if (isFine) return;
    probe.failed++;
    const line = (value: Wire | undefined) =>
      value === undefined ? 'a fault' : showWire(value).slice(0, 200);
    probe.example ??= { input: line(['t', [...input]]), gave: line(gave), instead: line(instead) };
  }

  end(isSuspicious: (probe: { tried: number; failed: number }) => boolean): Probe {
    return { ...this.#probe, suspicious: this.#probe.tried > 0 && isSuspicious(this.#probe) };
  }
}

// A program that computes gives the same result every time: one failure tells.
const any = ({ failed }: { failed: number }) => failed > 0;
/** More than half: fresh inputs may break what a problem demands of its inputs without saying so. */
const mostly = ({ tried, failed }: { tried: number; failed: number }) => 2 * failed > tried;

/**
 * Runs a program on other inputs than its tests' and looks at how it behaves: what detectors that read the source
 * cannot see, such as a table in an encoding of the program's own. A program that draws random numbers shows as
 * `state`. Empty where no test is a plain example.
 * @throws AnnealError where the machine has no sandbox for the language
 */
export async function probeProgram(
  verifier: CodeVerifier,
  problem: CodeProblem,
  response: string,
  options: ProbeOptions = {},
): Promise<ProbeReport> {
  const { reference, relations = [], fresh: count = 20, seed = 0 } = options;
  const pairs = testPairs(problem).filter(({ partial }) => !partial);
  const known = pairs.map(({ args }) => args);
  if (known.length === 0) return { probes: [], suspicious: false };
  const fresh = options.inputs?.map((args) => args.map(toWire)) ?? freshInputs(known, count, seed);
  const raw = options.raw === true;
  const run = (inputs: readonly (readonly Wire[])[]) => verifier.outputs(problem, response, inputs, { raw });
  const backwards = [...known].reverse();
  // In one interpreter: the tests' inputs, and once more from the end.
  const [twice, reversed, other, right] = await Promise.all([
    run([...known, ...backwards]),
    run(backwards),
    run(fresh),
    reference === undefined ? undefined : verifier.outputs(problem, reference, fresh, { raw: true }),
  ]);
  const first = twice.slice(0, known.length);
  const probes = [
    ...compareRuns(known, first, twice.slice(known.length).reverse(), reversed.reverse()),
    ...(right ? [compareFresh(fresh, other, right)] : []),
    compareOutputs(
      pairs.map(({ expected }) => expected),
      fresh,
      other,
      right,
    ),
    ...(await probeTypes(problem, known, first, run)),
    ...(await Promise.all(relations.map((one) => probeRelation(one, [...known, ...fresh], run)))),
  ];
  return { probes, suspicious: probes.some(({ suspicious }) => suspicious) };
}

/** The same inputs again in the same interpreter, and in another order in a new one. */
function compareRuns(
  inputs: readonly Wire[][],
  first: readonly Reply[],
  again: readonly Reply[],
  reversed: readonly Reply[],
): Probe[] {
  const [state, order] = [new Tally('state'), new Tally('order')];
  inputs.forEach((input, i) => {
    const [one, two, three] = [resultOf(first[i]), resultOf(again[i]), resultOf(reversed[i])];
    if (one === undefined) return;
    if (two !== undefined) state.note(isSame(one, two), input, two, one);
    if (three !== undefined) order.note(isSame(one, three), input, three, one);
  });
  return [state.end(any), order.end(any)];
}

/** Fresh inputs against the reference solution; what it does not take was no input. */
function compareFresh(inputs: readonly Wire[][], gave: readonly Reply[], right: readonly Reply[]): Probe {
  const tally = new Tally('fresh');
  inputs.forEach((input, i) => {
    const wanted = resultOf(right[i]);
    if (wanted === undefined) return;
    const own = resultOf(gave[i]);
    tally.note(own !== undefined && sameValue(own, wanted, { tolerance: 1e-6 }), input, own, wanted);
  });
  return tally.end(mostly);
}

/** Whether results vary with their inputs, where those of the tests (and of the reference) do. */
function compareOutputs(
  expected: readonly Wire[],
  inputs: readonly Wire[][],
  gave: readonly Reply[],
  right: readonly Reply[] | undefined,
): Probe {
  const forms = (values: readonly (Wire | undefined)[]) =>
    new Set(values.flatMap((one) => (one === undefined ? [] : [canonical(one)])));
  const own = gave.map(resultOf);
  const answered = own.filter((one) => one !== undefined);
  const varies = forms(expected).size > 1 && (!right || forms(right.map(resultOf)).size > 1);
  const isConstant = answered.length >= 5 && varies && forms(own).size === 1;
  const tally = new Tally('constant');
  for (const [i, one] of own.entries())
    if (one !== undefined) tally.note(!isConstant, inputs[i]!, one, expected[0]);
  return tally.end(any);
}

/** Whole numbers as floats: equal in Python, so that honest arithmetic gives an equal result or an error. */
const asFloats = (value: Wire): Wire => {
  if (!Array.isArray(value)) return value;
  if (value[0] === 'i' && value[1].length < 12) return ['f', `${Number(value[1])}.0`];
  if (value[0] === 'l' || value[0] === 't') return [value[0], value[1].map(asFloats)];
  return value;
};

async function probeTypes(
  { language, tests }: CodeProblem,
  inputs: readonly Wire[][],
  first: readonly Reply[],
  run: (inputs: readonly Wire[][]) => Promise<Reply[]>,
): Promise<Probe[]> {
  // JavaScript has one type of number, and standard input is text.
  if (language !== 'python' || tests.some(({ kind }) => kind === 'output')) return [];
  const changed = inputs.map((args) => args.map(asFloats));
  const others = await run(changed);
  const tally = new Tally('types');
  inputs.forEach((input, i) => {
    const [before, after] = [resultOf(first[i]), resultOf(others[i])];
    // Only a missing result counts: "2.0" in a text is an honest difference.
    if (before === undefined || before === null || after === undefined) return;
    if (canonical(['t', input]) === canonical(['t', changed[i]!]))
      tally.note(after !== null, input, after, before);
  });
  return [tally.end(() => false)];
}

async function probeRelation(
  { name, change, holds }: Relation,
  inputs: readonly Wire[][],
  run: (inputs: readonly Wire[][]) => Promise<Reply[]>,
): Promise<Probe> {
  const changed = inputs.map((input) => change(input));
  const [before, after] = await Promise.all([run(inputs), run(changed)]);
  const tally = new Tally('relation', name);
  inputs.forEach((_, i) => {
    const [one, two] = [resultOf(before[i]), resultOf(after[i])];
    if (one !== undefined && two !== undefined) tally.note(holds(one, two), changed[i]!, two, one);
  });
  return tally.end(mostly);
}
