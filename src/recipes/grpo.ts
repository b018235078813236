/**
 * Reinforcement learning of a pretrained chat model, with rewards from verifiers:
 *
 *     anneal run grpo model=SmolLM2-135M-Instruct.Q4_1.gguf
 *     anneal run grpo model=runs/sft data=gsm8k_train.jsonl reward=number promptTokens=256 maxTokens=200
 *     anneal run grpo model=SmolLM2-135M-Instruct data=problems.jsonl reward=code advantage=rloo
 *
 * Without data the problems are generated. An adapter (LoRA) is trained, or all weights; checkpoints and what is exported
 * load wherever a model is expected.
 */
import { AnnealError, adamW } from '../index.js';
import { parameterCount } from '../models/lm/config.js';
import { type GrpoOptions, grpoPhase, Policy, reinforce } from '../rl/index.js';
import { bestCheckpoint, lastCheckpoint, type ModelFiles, readEvents } from '../train/index.js';
import { duration } from './format.js';
import { beforeAndAfter, measure, showAnswers } from './grpo-evaluation.js';
import { openProblems, type Problem, type ProblemSource } from './grpo-problems.js';
import { type Grader, openGrader } from './grpo-rewards.js';
import { type GrpoConfig, grpoSettings } from './grpo-settings.js';
import { rateOf } from './rate.js';
import { type Quantity, type RunContext, type RunOutcome, recipe } from './recipe.js';
import {
  adapterSize,
  type ChatBundle,
  exportModel,
  filesOf,
  loadModel,
  trainedParameters,
} from './sft-model.js';

/** What is known once model and data have been read. */
interface Prepared {
  bundle: ChatBundle;
  source: ProblemSource;
}

type Context = RunContext<GrpoConfig, Prepared>;

export const grpo = recipe({
  name: 'grpo',
  summary: 'reinforcement learning of a chat model by verified answers: GRPO, Dr. GRPO, RLOO, REINFORCE++',
  config: grpoSettings,
  prepare,
  derive,
  run,
});

/** Settings that do not go together. */
function check(config: GrpoConfig): void {
  const { data, reward, evaluate, overlong, maxTokens, miniBatches, prompts } = config;
  if (data === undefined && reward !== 'math' && reward !== 'number' && reward !== 'answer')
    throw new AnnealError(
      `reward=${reward} needs data; generated problems have numbers as answers, use reward=math`,
    );
  if (data === undefined && config.heldOutData !== undefined)
    throw new AnnealError('heldOutData is set without data; give both, or neither for generated problems');
  if (evaluate.samples > 1 && evaluate.temperature === 0)
    throw new AnnealError(
      `evaluate.samples=${evaluate.samples} at evaluate.temperature=0 are the same answer again and again; raise the temperature`,
    );
  if (overlong.kind === 'penalty' && overlong.buffer > maxTokens)
    throw new AnnealError(
      `overlong.buffer=${overlong.buffer} is longer than answers, maxTokens=${maxTokens}`,
    );
  if (miniBatches > prompts)
    throw new AnnealError(
      `miniBatches=${miniBatches} of prompts=${prompts}: a part has whole groups; lower it`,
    );
}

async function prepare(config: GrpoConfig): Promise<Prepared> {
  check(config);
  const bundle = await loadModel(config);
  const { context } = bundle.model.config;
  const room = config.promptTokens + config.maxTokens;
  if (room > context)
    throw new AnnealError(
      `promptTokens=${config.promptTokens} and maxTokens=${config.maxTokens} are ${room} tokens, the model's context ${context}; lower them`,
    );
  return { bundle, source: await openProblems(config, bundle) };
}

/** Sequences that are sampled together. */
const slotsOf = ({ prompts, samples }: GrpoConfig) => prompts * samples;

const capacityOf = ({ maxTokens }: GrpoConfig, { longest }: ProblemSource) => longest + maxTokens;

function derive(config: GrpoConfig, { bundle, source }: Prepared): Quantity[] {
  const { layers, kvHeads, headDim } = bundle.model.config;
  const { method, steps, prompts, samples, maxTokens } = config;
  const parameters = parameterCount(bundle.model.config);
  const trained = method === 'lora' ? adapterSize(config, bundle) : parameters;
  const cached = slotsOf(config) * capacityOf(config, source) * 2 * layers * kvHeads * headDim;
  const isCounted = Number.isFinite(source.size);
  return [
    { name: 'parameters', value: parameters, unit: '' },
    { name: 'trainedParameters', value: trained, unit: '' },
    ...(isCounted ? [{ name: 'trainingProblems', value: source.size, unit: '' } as const] : []),
    { name: 'heldOutProblems', value: source.heldOut.length, unit: '' },
    { name: 'promptTokens', value: source.longest, unit: '' },
    { name: 'answersPerStep', value: prompts * samples, unit: '' },
    { name: 'tokensPerStep', value: prompts * samples * maxTokens, unit: '' },
    ...(isCounted ? [{ name: 'epochs', value: (steps * prompts) / source.size, unit: '' } as const] : []),
    // Weights; gradients and AdamW's moments (twice, so that a step can be taken back) of what is trained; the cache.
    { name: 'memoryOfStates', value: 4 * (parameters + 5 * trained + cached), unit: 'bytes' },
  ];
}

/** The policy; its reference costs nothing with an adapter, and a copy of the weights without. */
function makePolicy(config: GrpoConfig, { bundle, source }: Prepared, files: ModelFiles): Policy {
  const { method, kl, clip, entropy, optimizer, steps, updatesPerRollout, miniBatches } = config;
  const { beta1, beta2, weightDecay, clipNorm } = optimizer;
  const peak = optimizer.lr ?? (method === 'lora' ? 6e-4 : 2e-6);
  const { coefficient, estimator } = kl;
  const isInLoss = coefficient > 0 && kl.place === 'loss';
  return new Policy(bundle.model, {
    tokenizer: bundle.tokenizer,
    optimizer: adamW({
      lr: rateOf(config.schedule, peak, steps * updatesPerRollout * miniBatches),
      ...{ beta1, beta2, weightDecay, clipNorm },
    }),
    reference: coefficient === 0 ? 'none' : method === 'lora' ? 'adapter-off' : 'initial',
    slots: slotsOf(config),
    capacity: capacityOf(config, source),
    loss: { clip, entropy, ...(isInLoss && { kl: { coefficient, estimator } }) },
    files,
  });
}

function phaseOptions(
  config: GrpoConfig,
  { bundle, source }: Prepared,
  policy: Policy,
  grader: Grader,
): GrpoOptions<Problem> {
  const { overlong, zeroVariance, kl, aggregation, temperature } = config;
  const { samples, maxTokens, advantage, updatesPerRollout, miniBatches } = config;
  const isInReward = kl.coefficient > 0 && kl.place === 'reward';
  return {
    policy,
    prompts: source.prompts,
    reward: grader.reward,
    ...{ samples, maxTokens, advantage, updatesPerRollout, miniBatches },
    sampling: { temperature, stopTokens: bundle.endTokens },
    ...(aggregation && { aggregation }),
    overlong:
      overlong.kind === 'penalty' ? { kind: 'penalty', buffer: overlong.buffer } : { kind: overlong.kind },
    zeroVariance: zeroVariance.kind === 'resample' ? { resample: zeroVariance.rounds } : zeroVariance.kind,
    ...(isInReward && { klReward: { coefficient: kl.coefficient, estimator: kl.estimator } }),
    row: ({ example: { question, reference } }) => ({
      question,
      ...(reference !== undefined && { reference }),
    }),
  };
}

async function run(context: Context): Promise<RunOutcome> {
  const { config, prepared, directory, print, signal } = context;
  const { bundle, source } = prepared;
  for (const note of source.notes) print(note);
  const grader = await openGrader(
    config,
    source.heldOut.map(({ example }) => example),
  );
  trainedParameters(config, bundle);
  const files = filesOf(config, bundle);
  const policy = makePolicy(config, prepared, files);
  const { evaluate, sample, save, rollouts } = config;
  try {
    const result = await reinforce({
      policies: { policy },
      phases: { grpo: grpoPhase(phaseOptions(config, prepared, policy, grader)) },
      steps: config.steps,
      seed: config.seed,
      evaluate: {
        every: evaluate.every,
        run: () => measure(config, policy, source, grader, bundle.endTokens, signal),
        ...(evaluate.select === 'best' && { metric: 'accuracy' }),
      },
      sample: {
        every: sample.every,
        run: () => showAnswers(config, policy, source, bundle.endTokens),
      },
      save,
      rollouts: { every: rollouts },
      figures: ['reward', 'length', 'gradNorm', 'zeroVariance'],
      directory,
      config: context.record,
      progress: context.stream ? { stream: context.stream } : false,
      tensorBoard: context.tensorboard,
      signal,
      handleSignals: false,
    });
    await policy.dispose();
    return await conclude(context, result, files);
  } finally {
    await grader.close();
  }
}

/** Exports the last or the best weights, and says how accuracy went. */
async function conclude(
  { config, prepared, directory }: Context,
  { step, reason, seconds }: { step: number; reason: string; seconds: number },
  files: ModelFiles,
): Promise<RunOutcome> {
  const { events } = await readEvents(directory);
  const summary = { ...beforeAndAfter(events), time: duration(seconds) };
  if (reason === 'aborted' || reason === 'interrupted') return { status: 'stopped', step, summary };
  const isBest = config.evaluate.select === 'best';
  const checkpoint = await (isBest ? bestCheckpoint(directory) : lastCheckpoint(directory));
  if (checkpoint) await files.read(checkpoint);
  const written = await exportModel(config, prepared.bundle, directory, checkpoint);
  return { status: 'finished', step, summary: { ...summary, model: written } };
}
