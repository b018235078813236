/**
 * AceReason-Nemotron (Chen et al. 2025, 2505.16400): reinforcement learning in stages, mathematics first, then code.
 *
 *     anneal run acereason
 *     anneal run acereason seed=1 updatesPerRollout=4
 *     anneal run acereason --config course.json     # a curriculum of your own: the list `stages`
 *     anneal run acereason model.path=SmolLM2-135M-Instruct code=python math.data=gsm8k_train.jsonl programs.data=mbpp.jsonl …
 *
 * A small model learns to write chains of arithmetic and stack programs from examples that are often wrong; or a
 * pretrained model learns real problems, its programs run in a sandbox. The curriculum is data: length, prompts, group size,
 * temperature and rate of each stage. It is one run inside the run directory and goes on where it stopped, in any stage.
 */
import path from 'node:path';
import { AnnealError } from '../index.js';
import { countParameters } from '../nn/index.js';
import {
  adjustableRate,
  type CurriculumPhase,
  curriculumPhase,
  evaluatePolicy,
  mostSteps,
  type Policy,
  reinforce,
} from '../rl/index.js';
import { type DomainName, longestOf, type SmallCourse, smallCourse } from './acereason-domains.js';
import { type RealCourse, realCourse, saveMerged } from './acereason-pretrained.js';
import { writeStageReport } from './acereason-report.js';
import { type AceReasonConfig, aceReasonSettings } from './acereason-settings.js';
import { type Quantity, type RunContext, type RunOutcome, recipe } from './recipe.js';
import { makeSmallModel, policyFrom, taughtModel } from './rl-start.js';

type Course = SmallCourse | RealCourse;
type Context = RunContext<AceReasonConfig, Course>;

async function prepare(config: AceReasonConfig): Promise<Course> {
  if ((config.code === 'python') !== (config.model.path !== undefined))
    throw new AnnealError(
      config.model.path === undefined
        ? 'code=python needs a model that can write it; set model.path'
        : 'a pretrained model learns real programs; set code=python',
    );
  return config.model.path === undefined ? smallCourse(config) : realCourse(config);
}

/** What both domains can do, whatever the stage: the same problems, answers and length each time. */
async function measure({ config, prepared: { domains }, signal }: Context, policy: Policy) {
  const { samples, temperature } = config.evaluate;
  const metrics: Record<string, number> = {};
  for (const [name, { heldOut, answer, pool }] of Object.entries(domains)) {
    const found = await evaluatePolicy(policy, heldOut, {
      ...pool.sampling,
      ...{ samples, temperature, answer, signal },
      maxTokens: longestOf(config, name as DomainName),
      // Of all numbers of samples only the largest is told: more would hide the rest.
      ks: [samples],
    });
    for (const [metric, value] of Object.entries(found)) metrics[`${name}.${metric}`] = value;
  }
  return metrics;
}

/** The policy that begins: taught by examples, or pretrained. @returns undefined if the signal came first */
async function beginning(
  context: Context,
  rate: ReturnType<typeof adjustableRate>,
): Promise<Policy | undefined> {
  const { config, prepared: course, print } = context;
  if ('bundle' in course) return course.makePolicy(rate);
  print('1. The model learns to write solutions from examples\n');
  const start = await taughtModel(context, course.small, course.examples, config.warmStart);
  return start && policyFrom(course.small, start, { lr: rate.schedule, slots: config.slots });
}

/** Runs the curriculum from wherever it is to its end. */
function runStages(
  context: Context,
  policy: Policy,
  { phase, state, isOver, mostSteps: steps }: CurriculumPhase,
) {
  const { config, directory, record, signal, stream, tensorboard } = context;
  return reinforce({
    policies: { policy },
    phases: { curriculum: phase },
    ...{ state, isOver, steps, seed: config.seed },
    evaluate: { every: config.evaluate.every, run: () => measure(context, policy) },
    save: { every: 10, keep: 1 },
    figures: ['stage', 'reward', 'entropy', 'entropyRatio'],
    directory: path.join(directory, 'curriculum'),
    config: record,
    ...{ signal, tensorBoard: tensorboard, handleSignals: false },
    progress: stream ? { stream } : false,
  });
}

function derive(config: AceReasonConfig, course: Course): Quantity[] {
  const model = 'bundle' in course ? course.bundle.model : makeSmallModel(course.small);
  const pools = Object.entries(course.domains).map(
    ([name, { pool }]) => [name, pool.prompts.length] as const,
  );
  return [
    { name: 'parameters', value: countParameters(model), unit: 'parameters' },
    { name: 'context', value: model.config.context, unit: 'tokens' },
    ...pools.map(([name, value]): Quantity => ({ name: `${name}Prompts`, value, unit: '' })),
    {
      name: 'mostUpdates',
      value: mostSteps(config.stages as never, Object.fromEntries(pools)),
      unit: 'steps',
    },
  ];
}

async function learn(context: Context): Promise<RunOutcome> {
  const { config, prepared: course, directory, print } = context;
  const rate = adjustableRate(config.stages[0]!.lr);
  const policy = await beginning(context, rate);
  if (!policy) return { status: 'stopped', step: 0, summary: {} };
  const pools = Object.entries(course.domains).map(([name, { pool }]) => [name, pool] as const);
  const curriculum = curriculumPhase({
    ...{ policy, rate, seed: config.seed, domains: Object.fromEntries(pools) },
    stages: config.stages as never,
    entropy: { low: config.entropyLow },
    grpo: { updatesPerRollout: config.updatesPerRollout },
  });
  const { reason, step } = await runStages(context, policy, curriculum);
  await policy.dispose();
  if (reason !== 'finished') return { status: 'stopped', step, summary: {} };
  const { text, summary } = await writeStageReport(directory, config, course.domains);
  print(`\n${text}`);
  if (!('bundle' in course)) return { status: 'finished', step, summary };
  const hacks = course.report();
  if (hacks) print(hacks);
  return {
    status: 'finished',
    step,
    summary: { ...summary, model: await saveMerged(course.bundle, directory) },
  };
}

async function run(context: Context): Promise<RunOutcome> {
  const { prepared: course } = context;
  try {
    if ('bundle' in course) await course.open();
    return await learn(context);
  } finally {
    if ('bundle' in course) await course.close();
  }
}

export const aceReason = recipe({
  name: 'acereason',
  summary: 'AceReason: strictly on-policy GRPO through a curriculum, mathematics first and then code',
  config: aceReasonSettings,
  prepare,
  derive,
  run,
});
