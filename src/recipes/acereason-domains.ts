/** What the AceReason recipe learns from: prompts, rewards and held-out problems of both domains, for a small model. */
import { AnnealError } from '../index.js';
import {
  type Answer,
  type CurriculumDomain,
  chainArithmetic,
  decontaminate,
  type Prompt,
  parseSolution,
  perSample,
  protocolTokenizer,
  type Sample,
  type StepTask,
  shortPrompts,
  solutionExample,
  stackPrograms,
  type TextExample,
} from '../rl/index.js';
import type { AceReasonConfig } from './acereason-settings.js';
import type { SmallModel } from './rl-start.js';

/** Seed of problems that nobody trains on. */
const heldOut = 7_777_777;

/** A domain of the curriculum, and what it is measured by. */
export interface Domain {
  pool: CurriculumDomain;
  heldOut: readonly Prompt[];
  answer: (sample: Sample) => Answer | Promise<Answer>;
  /** Training problems that were left out because an evaluated one shares words with them. */
  removed: number;
}

export type DomainName = 'math' | 'code';

/** Both domains, as far as stages use them. */
export type Domains = Partial<Record<DomainName, Domain>>;

/** Problems to train on and to measure by, without an overlap. */
export interface Split<P> {
  training: P[];
  heldOut: P[];
  removed: number;
}

/**
 * Leaves out what shares a run of n words with a held-out problem.
 * @throws AnnealError if nothing is left
 */
export function withoutOverlap<P>(
  name: DomainName,
  problems: { training: readonly P[]; heldOut: P[] },
  text: (problem: P) => string,
  n: number,
): Split<P> {
  const { kept, removed } = decontaminate(problems.training, problems.heldOut.map(text), { n, text });
  if (kept.length === 0)
    throw new AnnealError(
      `every training problem of ${name} shares ${n} words in a row with an evaluated one; raise ngrams.${name}`,
    );
  return { training: kept, heldOut: problems.heldOut, removed: removed.length };
}

/** Longest completion that any stage of a domain allows: what evaluations allow in every stage. */
export function longestOf({ stages }: AceReasonConfig, domain: DomainName): number {
  return Math.max(0, ...stages.filter((one) => one.domain === domain).map(({ maxTokens }) => maxTokens));
}

/** Both domains with generated problems, and the small model that learns them. */
export interface SmallCourse {
  domains: Domains;
  small: SmallModel;
  /** For the supervised start. */
  examples: TextExample[];
}

type AnyTask = StepTask<never>;

/** Whether a response's final answer is right: nothing else is rewarded, neither form nor steps. */
const verdictOf = (task: AnyTask, { text, example }: Sample): Answer => {
  const { answer } = parseSolution(text);
  return answer === undefined
    ? { key: null, isCorrect: false }
    : { key: answer, isCorrect: task.isCorrect(example as never, answer) };
};

/** A domain of a generated task. */
function generated(
  config: AceReasonConfig,
  name: DomainName,
  task: AnyTask,
  problems: number,
  tokenizer: SmallModel['tokenizer'],
): Domain {
  const draw = (seed: number, count: number) =>
    Array.from({ length: count }, (_, i) => task.problem(seed, i));
  const split = withoutOverlap<never>(
    name,
    { training: draw(config.seed, problems), heldOut: draw(heldOut, config.evaluate.problems) },
    (problem) => task.question(problem),
    config.ngrams[name],
  );
  const asked = (problem: never): Prompt => ({
    prompt: tokenizer.encode(shortPrompts.generator(task.question(problem))),
    example: problem,
  });
  const stopTokens = [tokenizer.endOfText!];
  return {
    pool: {
      prompts: split.training.map(asked),
      reward: perSample<unknown>((sample) => Number(verdictOf(task, sample).isCorrect)),
      sampling: { stopTokens },
    },
    heldOut: split.heldOut.map(asked),
    answer: (sample) => verdictOf(task, sample),
    removed: split.removed,
  };
}

/** Chain arithmetic and stack programs. */
export function smallCourse(config: AceReasonConfig): SmallCourse {
  const { math, programs, model, warmStart, stages, seed } = config;
  const tasks = {
    math: chainArithmetic({ count: math.count, modulus: math.modulus }) as AnyTask,
    code: stackPrograms({ length: programs.length, shown: programs.shown }) as AnyTask,
  };
  const tokenizer = protocolTokenizer(Object.values(tasks));
  const names = (['math', 'code'] as const).filter((name) => stages.some(({ domain }) => domain === name));
  const counts = { math: math.problems, code: programs.problems };
  const domains: Domains = Object.fromEntries(
    names.map((name) => [name, generated(config, name, tasks[name], counts[name], tokenizer)]),
  );
  const prompts = Object.values(domains).flatMap(({ pool, heldOut: own }) => [...pool.prompts, ...own]);
  const longest = Math.max(...prompts.map(({ prompt }) => prompt.length));
  const context = longest + Math.max(...stages.map(({ maxTokens }) => maxTokens));
  const fits = ({ prompt, completion }: TextExample) =>
    tokenizer.encode(prompt).length + tokenizer.encode(completion).length < context;
  // Problems of another seed are other problems: none of these comes again later, except short ones by chance.
  const accuracies = { math: warmStart.accuracy, code: warmStart.programAccuracy };
  const examples = Array.from({ length: warmStart.examples }, (_, i) => {
    const name = names[i % names.length]!;
    return solutionExample(tasks[name], i, { seed: seed + 1_000_003, accuracy: accuracies[name] });
  }).filter(fits);
  const { layers, dim, heads } = model;
  return { domains, small: { shape: { layers, dim, heads }, tokenizer, context, seed }, examples };
}
