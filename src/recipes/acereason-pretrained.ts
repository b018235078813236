/** The AceReason recipe on a pretrained model: real problems, the rule verifiers, programs in a sandbox, an adapter. */
import path from 'node:path';
import { type ChatMessage, encodeChat } from '../data/index.js';
import { AnnealError, adamW, Rng } from '../index.js';
import { type LanguageModelBundle, loadLanguageModel } from '../models/lm/load.js';
import { saveLanguageModel } from '../models/lm/save.js';
import { applyLora, mergeLora } from '../nn/lora.js';
import { type AdjustableRate, Policy, type Prompt, type Sample } from '../rl/index.js';
import {
  type CodeProblem,
  CodeVerifier,
  codeReward,
  extractCode,
  HackMonitor,
  type HumanEvalRow,
  humanEvalProblem,
  type MbppRow,
  mathReward,
  mbppProblem,
  problemOf,
  rewardOf,
  type SampleReward,
  splitTests,
  visibleTests,
} from '../verify/index.js';
import {
  type Domain,
  type DomainName,
  type Domains,
  longestOf,
  withoutOverlap,
} from './acereason-domains.js';
import type { AceReasonConfig } from './acereason-settings.js';
import { recordsAt } from './hub-data.js';

/** A problem of either domain: what is asked, and what its reward reads. */
interface RealProblem {
  /** The whole prompt. */
  question: string;
  /** The problem's own words: instructions are alike everywhere, and no overlap. */
  statement: string;
  gold?: string;
  problem?: CodeProblem;
}

/** Real problems, the model that learns them, and what has to be closed. */
export interface RealCourse {
  domains: Domains;
  bundle: LanguageModelBundle;
  /** Opens the sandboxes where a stage is of code. @throws AnnealError where this machine has none for Python */
  open(): Promise<void>;
  makePolicy(rate: AdjustableRate): Policy;
  /** What programs tried beside solving their problems, in words. */
  report(): string | undefined;
  close(): Promise<void>;
}

/** A row of HumanEval or MBPP, or a problem in this project's own form. @throws AnnealError for what is none */
export function codeProblemOf(row: Readonly<Record<string, unknown>>, place: string): CodeProblem {
  if ('entry_point' in row) return humanEvalProblem(row as unknown as HumanEvalRow);
  if ('test_list' in row) return mbppProblem(row as unknown as MbppRow);
  return problemOf(row, place);
}

/** The tests of a problem that its prompt shows, as a person would write them. */
function shownTests(problem: CodeProblem): string[] {
  return visibleTests(problem).map((test) => {
    if (test.kind === 'assertion') return test.source.trim();
    if (test.kind === 'output')
      return `input ${JSON.stringify(test.input)} prints ${JSON.stringify(test.expected)}`;
    const args = test.args.map((one) => JSON.stringify(one)).join(', ');
    return `${test.name ?? problem.entry}(${args}) gives ${JSON.stringify(test.expected)}`;
  });
}

const askForCode = (problem: CodeProblem): string =>
  [
    `Write a program in ${problem.language === 'python' ? 'Python' : 'JavaScript'} and put it into a code block.`,
    ...(problem.prompt ? ['', problem.prompt.trim()] : []),
    '',
    'It has to pass tests as these:',
    ...shownTests(problem),
  ].join('\n');

const askForAnswer = (question: string): string =>
  `${question.trim()}\n\nReason step by step, and put the final answer into \\boxed{}.`;

/** The final answer of a worked solution in GSM8K's form, or the text itself. */
const goldOf = (answer: string): string => answer.split('####').at(-1)!.trim();

async function readProblems(config: AceReasonConfig, name: DomainName): Promise<RealProblem[]> {
  const data = name === 'math' ? config.math.data : config.programs.data;
  if (data === undefined)
    throw new AnnealError(
      `a stage is of ${name}, but there are no real problems of it; set ${name === 'math' ? 'math' : 'programs'}.data to a JSONL file or an hf:// address`,
    );
  const found: RealProblem[] = [];
  for (const source of recordsAt(data, config.hub)) {
    for await (const row of source) {
      const place = `problem ${found.length + 1} of ${name}`;
      if (name === 'code') {
        // Hidden tests decide; a prompt that showed them all would ask for a table of their answers.
        const problem = splitTests(codeProblemOf(row, place), { seed: config.seed });
        found.push({ question: askForCode(problem), statement: problem.prompt ?? problem.id, problem });
        continue;
      }
      const question = row.question ?? row.problem ?? row.prompt;
      const gold = row.answer ?? row.gold;
      if (typeof question !== 'string' || (typeof gold !== 'string' && typeof gold !== 'number'))
        throw new AnnealError(
          `${place} has no "question" and "answer"; its fields are ${Object.keys(row).join(', ')}`,
        );
      found.push({ question: askForAnswer(question), statement: question, gold: goldOf(String(gold)) });
    }
  }
  return found;
}

/** Held-out problems are drawn first, the same for the same seed whatever number is trained on. */
function splitProblems(config: AceReasonConfig, name: DomainName, all: readonly RealProblem[]) {
  const { problems } = config.evaluate;
  const wanted = name === 'math' ? config.math.problems : config.programs.problems;
  if (all.length <= problems)
    throw new AnnealError(
      `${all.length} problems of ${name} are too few to keep ${problems} for evaluation; set evaluate.problems lower`,
    );
  const order = Array.from(new Rng(config.seed, `held out ${name}`).permutation(all.length), (i) => all[i]!);
  return withoutOverlap(
    name,
    { training: order.slice(problems, problems + wanted), heldOut: order.slice(0, problems) },
    ({ statement }) => statement,
    config.ngrams[name],
  );
}

function promptOf(
  { tokenizer, chatTemplate }: LanguageModelBundle,
  example: RealProblem,
): Prompt<RealProblem> {
  if (chatTemplate === undefined) return { prompt: tokenizer.encode(`${example.question}\n\n`), example };
  const messages: ChatMessage[] = [{ role: 'user', content: example.question }];
  const { endOfText } = tokenizer;
  const eosToken = endOfText === undefined ? undefined : tokenizer.decode([endOfText], { special: true });
  return {
    prompt: encodeChat(tokenizer, chatTemplate, messages, { addGenerationPrompt: true, eosToken }),
    example,
  };
}

/** A domain of real problems; prompts that leave no room for the longest completion are left out. */
async function realDomain(
  config: AceReasonConfig,
  name: DomainName,
  bundle: LanguageModelBundle,
  reward: SampleReward,
): Promise<Domain> {
  const split = splitProblems(config, name, await readProblems(config, name));
  const room = bundle.model.config.context - longestOf(config, name);
  const asked = (problems: readonly RealProblem[]) => {
    const fitting = problems
      .map((one) => promptOf(bundle, one))
      .filter(({ prompt }) => prompt.length <= room);
    if (fitting.length > 0) return fitting;
    throw new AnnealError(
      `no prompt of ${name} fits into the model's ${bundle.model.config.context} tokens beside a completion; lower maxTokens`,
    );
  };
  const key = (text: string) => (name === 'code' ? (extractCode(text, 'python')?.code ?? null) : text);
  return {
    pool: {
      prompts: asked(split.training),
      reward: rewardOf(reward),
      sampling: { stopTokens: bundle.endTokens },
      // A whole group of programs waits for the sandboxes.
      rewardTimeoutMs: 600_000,
    },
    heldOut: asked(split.heldOut),
    answer: async (sample: Sample) => {
      const { score, verdict } = await reward(sample);
      return { key: verdict.extracted ?? key(sample.text), isCorrect: (score ?? 0) > 0 };
    },
    removed: split.removed,
  };
}

/** Scores programs once sandboxes are open: a run that is only looked at (`--dry-run`) starts none. */
class Programs {
  readonly #workers: number;
  readonly #monitor = new HackMonitor();
  #verifier: CodeVerifier | undefined;
  #reward: SampleReward | undefined;

  constructor(workers: number) {
    this.#workers = workers;
  }

  /** @throws AnnealError where this machine has no sandbox for Python */
  async open(): Promise<void> {
    const verifier = await CodeVerifier.open({ workers: this.#workers });
    this.#verifier = verifier;
    if (!verifier.choice.sandboxes.some(({ language }) => language === 'python'))
      throw new AnnealError(`this machine has no sandbox for Python: ${verifier.describe()}`);
    this.#reward = codeReward({ verifier, monitor: this.#monitor, split: false });
  }

  readonly reward: SampleReward = (sample) => {
    if (!this.#reward) throw new AnnealError('no sandbox is open; call open() first');
    return this.#reward(sample);
  };

  report(): string | undefined {
    const { samples, flagged, caught } = this.#monitor.report();
    return samples > 0
      ? `${samples} programs in this session: ${flagged.count} flagged by their text, ${caught.count} caught cheating, these included.`
      : undefined;
  }

  async close(): Promise<void> {
    await this.#verifier?.close();
  }
}

/** Reads model and problems. @throws AnnealError where data is missing or of no use */
export async function realCourse(config: AceReasonConfig): Promise<RealCourse> {
  const bundle = await loadLanguageModel(config.model.path!);
  const programs = new Programs(config.programs.workers);
  const domains: Domains = {};
  for (const name of ['math', 'code'] as const) {
    if (!config.stages.some(({ domain }) => domain === name)) continue;
    const reward = name === 'math' ? mathReward() : programs.reward;
    domains[name] = await realDomain(config, name, bundle, reward);
  }
  return {
    domains,
    bundle,
    open: async () => (domains.code ? programs.open() : undefined),
    makePolicy(rate) {
      applyLora(bundle.model, { rank: config.model.rank, seed: config.seed });
      return new Policy(bundle.model, {
        tokenizer: bundle.tokenizer,
        optimizer: adamW({ lr: rate.schedule, weightDecay: 0, clipNorm: 1 }),
        slots: config.slots,
      });
    },
    report: () => programs.report(),
    close: () => programs.close(),
  };
}

/** Writes the model with its adapter merged, to be served. @returns its folder */
export async function saveMerged(bundle: LanguageModelBundle, directory: string): Promise<string> {
  mergeLora(bundle.model);
  const folder = path.join(directory, 'model');
  await saveLanguageModel(folder, bundle);
  return folder;
}
