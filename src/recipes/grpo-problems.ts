/** Problems of the recipe `grpo`: from files and the Hub, or generated. */
import { type ChatMessage, encodeChat } from '../data/index.js';
import { type JsonItem, mapped } from '../evaluate/items.js';
import { AnnealError, Rng } from '../index.js';
import { type Prompt, wordProblems } from '../rl/index.js';
import { problemOf } from '../verify/index.js';
import type { GrpoConfig } from './grpo-settings.js';
import { recordsAt } from './hub-data.js';
import { type ChatBundle, eosTokenOf } from './sft-model.js';

/** A problem: what is asked, and what the reward needs to know. */
export interface Problem extends Readonly<Record<string, unknown>> {
  /** What a user says. */
  readonly question: string;
  /** Messages that end with the question, where the data have whole conversations. */
  readonly messages?: readonly ChatMessage[];
  /** The right answer, or a solution that ends with it; absent for code, which has tests. */
  readonly reference?: string;
  /** A right answer as the policy could give it, for solved examples. */
  readonly solution?: string;
}

/** Where the problems of a run come from. */
export interface ProblemSource {
  /** Prompts of a step, and of its further rounds; a pure function. */
  prompts(step: number, round: number): Prompt<Problem>[];
  /** Problems that are never trained on. */
  heldOut: Prompt<Problem>[];
  /** Problems to train on; infinite where they are generated. */
  size: number;
  /** Tokens of the longest prompt that can come. */
  longest: number;
  /** What a person should know about the reading. */
  notes: string[];
}

const promptFields = ['prompt', 'question', 'problem'];
const answerFields = ['gold', 'reference', 'answer', 'solution', 'target'];

const isMessages = (value: unknown): value is ChatMessage[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((one) => typeof (one as ChatMessage | null)?.role === 'string');

/** What is asked: a text, or a conversation whose last message is the user's. */
function askedBy(item: JsonItem, field: string | undefined): Pick<Problem, 'question' | 'messages'> {
  const from = field ?? promptFields.find((name) => typeof item[name] === 'string' || isMessages(item[name]));
  if (from === undefined) {
    const has = Object.keys(item).join(', ') || 'nothing';
    throw new AnnealError(`it has no prompt, question or problem, but ${has}; set fields.prompt`);
  }
  const value = item[from];
  if (!isMessages(value)) return { question: mapped(item, from) };
  const last = value.at(-1)!;
  if (last.role !== 'user' || typeof last.content !== 'string')
    throw new AnnealError(`the last message of its "${from}" is not a text of the user`);
  return { question: last.content, messages: value };
}

/**
 * An item of a data set as a problem.
 * @throws AnnealError that says what it lacks
 */
export function problemOfItem(
  item: JsonItem,
  { fields, reward }: Pick<GrpoConfig, 'fields' | 'reward'>,
): Problem {
  const asked = askedBy(item, fields.prompt);
  if (reward === 'code') {
    const from = fields.answer ?? (typeof item.problem === 'object' ? 'problem' : undefined);
    const problem = problemOf(from === undefined ? item : item[from], 'its problem');
    return { ...asked, problem };
  }
  const from = fields.answer ?? answerFields.find((name) => item[name] !== undefined && item[name] !== null);
  if (from === undefined) {
    const has = Object.keys(item).join(', ');
    throw new AnnealError(`it has no reference (${answerFields.join(', ')}), but ${has}; set fields.answer`);
  }
  const reference = mapped(item, from);
  return { ...asked, reference, solution: reference };
}

/** At most this many bad records are named; the rest are counted. */
const named = 3;

async function readProblems(
  paths: string | readonly string[],
  config: GrpoConfig,
  limit = Number.POSITIVE_INFINITY,
): Promise<{ problems: Problem[]; notes: string[] }> {
  const problems: Problem[] = [];
  const bad: string[] = [];
  let count = 0;
  for (const source of recordsAt(paths, config.hub, {
    maxCorrupt: Number.POSITIVE_INFINITY,
    onSkip: ({ file, line, reason }) => bad.push(`line ${line} of ${file}: ${reason}`),
  })) {
    if (problems.length >= limit) break;
    for await (const record of source) {
      count++;
      try {
        problems.push(problemOfItem(record, config));
      } catch (error) {
        bad.push(`record ${count}: ${(error as Error).message}`);
      }
      if (problems.length >= limit) break;
    }
  }
  const reasons = bad.slice(0, named).join('; ') + (bad.length > named ? '; …' : '');
  if (problems.length === 0)
    throw new AnnealError(`${String(paths)} holds no problems${bad.length > 0 ? ` (${reasons})` : ''}`);
  return {
    problems,
    notes: bad.length > 0 ? [`${bad.length} items of the data are left out (${reasons})`] : [],
  };
}

/** A request to be brief: a small model's long answers cost time and are wrong more often. */
const brief = 'Solve the problem. Write only the calculation.';

/** Makes prompts of problems: the message of the system, solved examples, then the question. */
function prompter(bundle: ChatBundle, shots: readonly Problem[], system?: string) {
  const { tokenizer, chatTemplate } = bundle;
  const before: ChatMessage[] = [
    ...(system === undefined ? [] : [{ role: 'system', content: system }]),
    ...shots.flatMap(({ question, solution }) => [
      { role: 'user', content: question },
      { role: 'assistant', content: solution },
    ]),
  ];
  const options = { addGenerationPrompt: true, eosToken: eosTokenOf(bundle) };
  return (problem: Problem): Prompt<Problem> => {
    const own = problem.messages ?? [{ role: 'user', content: problem.question }];
    // A conversation with a system message of its own keeps it.
    const head = own[0]!.role === 'system' ? before.filter(({ role }) => role !== 'system') : before;
    const messages = own[0]!.role === 'system' ? [own[0]!, ...head, ...own.slice(1)] : [...head, ...own];
    return { prompt: encodeChat(tokenizer, chatTemplate, messages, options), example: problem };
  };
}

/** Seed of the generated problems that nobody trains on: the same in every run, so that runs can be compared. */
const heldOutSeed = 7_777_777;
const shotSeed = 7_777_778;

/** Endless generated problems. Held-out ones never come, whatever the seed. */
function generated(config: GrpoConfig, bundle: ChatBundle): ProblemSource {
  const task = wordProblems(config.problems);
  const draw = (seed: number, index: number): Problem => {
    const { question, answer, steps } = task.problem(seed, index);
    return { question, reference: String(answer), solution: steps.join('\n') };
  };
  const list = (seed: number, count: number) => Array.from({ length: count }, (_, i) => draw(seed, i));
  const shots = list(shotSeed, config.shots ?? 1);
  const encode = prompter(bundle, shots, config.system ?? brief);
  const heldOut = list(heldOutSeed, config.evaluate.problems);
  const kept = new Set([...heldOut, ...shots].map(({ question }) => question));
  const problem = (position: number): Problem => {
    for (let attempt = 0; attempt < 1000; attempt++) {
      const found = draw(config.seed + attempt * 1_000_003, position);
      if (!kept.has(found.question)) return found;
    }
    throw new AnnealError('the generated problems are too few to hold some out; widen problems.numbers');
  };
  const prompts = heldOut.map(encode);
  const rounds = roundsOf(config);
  const longest = Math.max(...prompts.map(({ prompt }) => prompt.length));
  if (longest > config.promptTokens)
    throw new AnnealError(
      `a generated problem has ${longest} tokens; raise promptTokens=${config.promptTokens}`,
    );
  return {
    heldOut: prompts,
    prompts: (step, round) =>
      Array.from({ length: config.prompts }, (_, i) =>
        encode(problem((step * rounds + round) * config.prompts + i)),
      ),
    size: Number.POSITIVE_INFINITY,
    longest: config.promptTokens,
    notes: [],
  };
}

/** Rollouts that a step may make: each has prompts of its own. */
const roundsOf = ({ zeroVariance: { kind, rounds } }: GrpoConfig) => (kind === 'resample' ? 1 + rounds : 1);

/** Problems of files: some are held out at random, the rest come once an epoch, in another order each time. */
async function fromData(config: GrpoConfig, bundle: ChatBundle): Promise<ProblemSource> {
  const { data, heldOutData, limit, seed, promptTokens, evaluate } = config;
  const read = await readProblems(data!, config, limit);
  const notes = [...read.notes];
  const order = new Rng(seed).split('held out').permutation(read.problems.length);
  const mixed = Array.from(order, (i) => read.problems[i]!);
  const shotCount = config.shots ?? 0;
  const shots = mixed.splice(0, shotCount);
  if (shots.length < shotCount || shots.some(({ solution }) => solution === undefined))
    throw new AnnealError(`shots=${shotCount} needs as many problems with a reference that can be shown`);
  const encode = prompter(bundle, shots, config.system);
  const fitting = (problems: readonly Problem[], what: string) => {
    const prompts = problems.map(encode);
    const kept = prompts.filter(({ prompt }) => prompt.length <= promptTokens);
    const left = prompts.length - kept.length;
    if (left > 0)
      notes.push(`${left} of ${prompts.length} ${what} prompts have more than ${promptTokens} tokens`);
    if (kept.length === 0)
      throw new AnnealError(
        `every ${what} prompt has more than promptTokens=${promptTokens} tokens; raise it`,
      );
    return kept;
  };
  const separate = heldOutData && (await readProblems(heldOutData, config, evaluate.problems));
  if (separate) notes.push(...separate.notes);
  const count = Math.min(evaluate.problems, Math.floor(mixed.length / 5));
  if (!separate && count === 0)
    throw new AnnealError(`${mixed.length} problems are too few to hold some out; give more, or heldOutData`);
  const heldOut = fitting(separate ? separate.problems : mixed.splice(0, count), 'held-out');
  const asked = new Set(heldOut.map(({ example }) => example.question));
  const others = mixed.filter(({ question }) => !asked.has(question));
  if (others.length < mixed.length)
    notes.push(`${mixed.length - others.length} problems are among the held-out ones, and not trained on`);
  if (others.length === 0) throw new AnnealError('every problem of data is among the held-out ones');
  const training = fitting(others, 'training');
  return {
    heldOut,
    prompts: epochs(training, config),
    size: training.length,
    longest: Math.max(...[...training, ...heldOut].map(({ prompt }) => prompt.length)),
    notes,
  };
}

/** Each problem once an epoch, in an order that depends on seed and epoch alone. */
function epochs(training: readonly Prompt<Problem>[], config: GrpoConfig): ProblemSource['prompts'] {
  const { seed, prompts } = config;
  const orders = new Map<number, Int32Array>();
  const orderOf = (epoch: number) => {
    let order = orders.get(epoch);
    if (!order) {
      order = new Rng(seed).split('order of problems').split(epoch).permutation(training.length);
      orders.clear();
      orders.set(epoch, order);
    }
    return order;
  };
  return (step, round) =>
    Array.from({ length: prompts }, (_, i) => {
      const position = (step * roundsOf(config) + round) * prompts + i;
      const order = orderOf(Math.floor(position / training.length));
      return training[order[position % training.length]!]!;
    });
}

/**
 * The problems of a run, as prompts in the model's chat format.
 * @throws AnnealError if data cannot be read, or none of them can be used
 */
export const openProblems = (
  config: GrpoConfig,
  bundle: ChatBundle,
): Promise<ProblemSource> | ProblemSource =>
  config.data === undefined ? generated(config, bundle) : fromData(config, bundle);
