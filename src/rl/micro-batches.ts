/**
 * How sequences of all lengths become passes of few shapes. Programs are compiled for fixed shapes, so every size is
 * rounded up to one of a short list; sequences of about one length go together, so that little of a pass is padding.
 */

/** A prompt with a completion of it. */
export interface Sequence {
  readonly prompt: Int32Array;
  readonly tokens: Int32Array;
}

/** The sizes of a pass: B rows of T completion tokens. */
export interface PassShape {
  /** `shared`: prompts [P, S] apart, each computed once. `rows`: prompt and completion in one row of S tokens, P is 0. */
  layout: 'shared' | 'rows';
  prompts: number;
  promptLength: number;
  rows: number;
  length: number;
}

/** Tokens that a pass computes. */
export const tokensOf = ({ layout, prompts, promptLength, rows, length }: PassShape): number =>
  layout === 'rows' ? rows * promptLength : prompts * promptLength + rows * length;

/** Sequences that are computed together. */
export interface MicroBatch {
  shape: PassShape;
  /** Indices of the sequences, in the order of their rows; further rows are padding. */
  members: readonly number[];
  /** With shared prompts: those of the pass, and which each row continues. */
  prompts: readonly Int32Array[];
  owners: Int32Array;
}

/** Settings of `microBatchesOf`. */
export interface MicroBatchOptions {
  layout: PassShape['layout'];
  /** Most tokens of a pass, padding included; a single sequence may have more. */
  tokens: number;
  /** Longest row that the model takes. */
  context: number;
}

/** Up to here, lengths are rounded to multiples of it. */
const lengthStep = 16;
const finestLength = 64;

/** The smallest of 1, 2, 3, 4, 6, 8, 12, 16, … that is at least n. */
export function roundedCount(n: number): number {
  const power = 2 ** Math.ceil(Math.log2(Math.max(1, n)));
  return power >= 4 && n <= 0.75 * power ? 0.75 * power : power;
}

/** The smallest of 16, 32, 48, 64, 96, 128, 192, … that is at least n. */
export const roundedLength = (n: number): number =>
  n <= finestLength ? lengthStep * Math.max(1, Math.ceil(n / lengthStep)) : roundedCount(n);

/** Names prompts by their tokens; the same array is looked at once. */
function promptIds(sequences: readonly Sequence[]): { ids: Int32Array; prompts: Int32Array[] } {
  const byArray = new Map<Int32Array, number>();
  const byTokens = new Map<string, number>();
  const prompts: Int32Array[] = [];
  const ids = Int32Array.from(sequences, ({ prompt }) => {
    let id = byArray.get(prompt);
    if (id !== undefined) return id;
    const key = prompt.join();
    id = byTokens.get(key) ?? prompts.push(prompt) - 1;
    byTokens.set(key, id);
    byArray.set(prompt, id);
    return id;
  });
  return { ids, prompts };
}

/** Room of a prompt in a pass. With shared prompts, its last token is the first of every row. */
const promptRoom = (length: number, { context }: MicroBatchOptions) =>
  Math.min(roundedLength(length - 1), context);

/** Sizes that counts are rounded to, up to the first that is at least n. */
function countsUpTo(n: number): number[] {
  const counts = [1];
  while (counts.at(-1)! < n) counts.push(roundedCount(counts.at(-1)! + 1));
  return counts;
}

const slices = <T>(list: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));

/** What a pass costs besides its tokens, in tokens of a model of a million parameters. */
const passCost = 64;

/** Cuts rows of one padded length into passes as cheaply as possible, none above the limit but for single rows. */
function cut(
  order: readonly number[],
  length: number,
  ids: Int32Array,
  prompts: readonly Int32Array[],
  options: MicroBatchOptions,
): MicroBatch[] {
  let best: { batches: MicroBatch[]; cost: number } | undefined;
  for (const size of countsUpTo(order.length)) {
    const batches = slices(order, size).map((piece) => microBatch(piece, length, ids, prompts, options));
    const tokens = batches.map(({ shape }) => tokensOf(shape));
    if (size > 1 && tokens.some((n) => n > options.tokens)) continue;
    const cost = tokens.reduce((a, b) => a + b, 0) + passCost * tokens.length;
    if (!best || cost <= best.cost) best = { batches, cost };
  }
  return best!.batches;
}

/** Room of a row that holds prompt and completion. */
function rowRoom(
  rows: readonly number[],
  ids: Int32Array,
  prompts: readonly Int32Array[],
  length: number,
  { context }: MicroBatchOptions,
): number {
  const longest = Math.max(...rows.map((i) => prompts[ids[i]!]!.length));
  return Math.min(roundedLength(longest - 1 + length), context);
}

function microBatch(
  members: readonly number[],
  length: number,
  ids: Int32Array,
  prompts: readonly Int32Array[],
  options: MicroBatchOptions,
): MicroBatch {
  const rows = roundedCount(members.length);
  const owners = new Int32Array(rows);
  if (options.layout === 'rows') {
    const promptLength = rowRoom(members, ids, prompts, length, options);
    return {
      shape: { layout: 'rows', prompts: 0, promptLength, rows, length },
      members,
      prompts: [],
      owners,
    };
  }
  const owned = [...new Set(members.map((i) => ids[i]!))];
  members.forEach((i, row) => {
    owners[row] = owned.indexOf(ids[i]!);
  });
  const promptLength = Math.max(...owned.map((id) => promptRoom(prompts[id]!.length, options)));
  const shape = {
    layout: 'shared',
    prompts: roundedCount(owned.length),
    promptLength,
    rows,
    length,
  } as const;
  return { shape, members, prompts: owned.map((id) => prompts[id]!), owners };
}

/**
 * Passes for sequences, longest completions first; within one length, those of one prompt stand together. Sequences
 * without a completion are left out.
 */
export function microBatchesOf(sequences: readonly Sequence[], options: MicroBatchOptions): MicroBatch[] {
  const { ids, prompts } = promptIds(sequences);
  const byLength = new Map<number, number[]>();
  sequences.forEach(({ tokens }, i) => {
    if (tokens.length === 0) return;
    const length = Math.min(roundedLength(tokens.length), options.context);
    const list = byLength.get(length);
    if (list) list.push(i);
    else byLength.set(length, [i]);
  });
  const room = (i: number) => promptRoom(prompts[ids[i]!]!.length, options);
  return [...byLength]
    .sort(([a], [b]) => b - a)
    .flatMap(([length, members]) => {
      const order = members.sort((a, b) => room(b) - room(a) || ids[a]! - ids[b]! || a - b);
      return cut(order, length, ids, prompts, options);
    });
}

/** Inputs of a pass that say which sequences it computes. */
export type SequenceFeeds = Record<
  'tokens' | 'targets' | 'prompts' | 'promptLengths' | 'owners' | 'places',
  Int32Array
>;

/**
 * The tokens of a pass. Row r reads the last token of its prompt and its completion but for the last, and its targets
 * are the completion: position t of a row says what token t of the completion is worth.
 */
export function sequenceFeeds(batch: MicroBatch, sequences: readonly Sequence[]): Partial<SequenceFeeds> {
  const { rows, length, promptLength, layout } = batch.shape;
  const targets = new Int32Array(rows * length);
  batch.members.forEach((member, row) => {
    targets.set(sequences[member]!.tokens, row * length);
  });
  if (layout === 'rows') return { targets, ...rowFeeds(batch, sequences) };
  const tokens = new Int32Array(rows * length);
  batch.members.forEach((member, row) => {
    const sequence = sequences[member]!;
    tokens[row * length] = sequence.prompt.at(-1)!;
    tokens.set(sequence.tokens.subarray(0, -1), row * length + 1);
  });
  const prompts = new Int32Array(batch.shape.prompts * promptLength);
  const promptLengths = new Int32Array(batch.shape.prompts);
  batch.prompts.forEach((prompt, i) => {
    prompts.set(prompt.subarray(0, -1), i * promptLength);
    promptLengths[i] = prompt.length - 1;
  });
  return { tokens, targets, prompts, promptLengths, owners: batch.owners };
}

/** Whole rows, and where in them (of all rows together) the completions' positions are. */
function rowFeeds({ shape, members }: MicroBatch, sequences: readonly Sequence[]) {
  const { rows, length, promptLength: room } = shape;
  const tokens = new Int32Array(rows * room);
  const places = new Int32Array(rows * length);
  members.forEach((member, row) => {
    const { prompt, tokens: completion } = sequences[member]!;
    tokens.set(prompt, row * room);
    tokens.set(completion.subarray(0, -1), row * room + prompt.length);
    for (let t = 0; t < completion.length; t++) places[row * length + t] = row * room + prompt.length - 1 + t;
  });
  return { tokens, places };
}

/** Values of a pass's completion positions [B, T] from one array per sequence; 0 in padding. */
export function spread(
  batch: MicroBatch,
  values: (sequence: number) => ArrayLike<number>,
  factor = 1,
): Float32Array {
  const { rows, length } = batch.shape;
  const out = new Float32Array(rows * length);
  batch.members.forEach((member, row) => {
    const own = values(member);
    for (let t = 0; t < own.length; t++) out[row * length + t] = factor * own[t]!;
  });
  return out;
}
