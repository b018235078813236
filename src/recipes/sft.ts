/**
 * Supervised fine-tuning on conversations or question-answer pairs, with the loss on answers only:
 *
 *     anneal run sft model=SmolLM2-135M-Instruct.Q4_1.gguf data=gsm8k_train.jsonl
 *     anneal run sft model=runs/lm data=chats.jsonl method=full optimizer.lr=1e-4 epochs=3
 *
 * Trains an adapter (LoRA) or all weights. Checkpoints are adapters in PEFT's format or whole model directories;
 * at the end the best one is exported.
 */
import {
  type Conversation,
  encodeChat,
  type LanguageBatch,
  TokenBatches,
  type TokenDataset,
} from '../data/index.js';
import { Generator } from '../generate/index.js';
import { AnnealError, adamW, float32, int32 } from '../index.js';
import { flopsPerToken, parameterCount } from '../models/lm/config.js';
import { languageModelLoss } from '../models/lm/loss.js';
import { bestCheckpoint, type ModelFiles, measurePeak, type TrainResult, train } from '../train/index.js';
import { duration } from './format.js';
import { rateOf } from './rate.js';
import { type Quantity, type RunContext, type RunOutcome, recipe } from './recipe.js';
import {
  countAnswerTokens,
  encodeAll,
  readConversations,
  splitConversations,
  validationBatches,
} from './sft-data.js';
import {
  adapterSize,
  type ChatBundle,
  eosTokenOf,
  exportModel,
  filesOf,
  loadModel,
  trainedParameters,
} from './sft-model.js';
import { type SftConfig, sftSettings } from './sft-settings.js';

/** What is known once model and data have been read. */
interface Prepared {
  bundle: ChatBundle;
  context: number;
  training: TokenDataset;
  validation: TokenDataset;
  /** Validation conversations, for samples. */
  examples: Conversation[];
  steps: number;
  rowsPerEpoch: number;
  notes: string[];
}

export const sft = recipe({
  name: 'sft',
  summary: 'fine-tune a language model on conversations or question-answer pairs',
  config: sftSettings,
  prepare,
  derive,
  run,
});

async function prepare(config: SftConfig): Promise<Prepared> {
  const bundle = await loadModel(config);
  const context = Math.min(config.context, bundle.model.config.context);
  const read = await readConversations(config.data, config.fields, config.limit, config.hub);
  const { validationData } = config;
  const kept = validationData
    ? await readConversations(validationData, config.fields, undefined, config.hub)
    : undefined;
  const { training, validation } = kept
    ? { training: read.conversations, validation: kept.conversations }
    : splitConversations(read.conversations, config.validation, config.seed);
  const notes = [...read.notes, ...(kept?.notes ?? [])];
  const encode = (conversations: Conversation[], what: string) => {
    const { dataset, cut } = encodeAll(
      conversations,
      bundle.tokenizer,
      bundle.chatTemplate,
      context,
      eosTokenOf(bundle),
    );
    if (cut > 0)
      notes.push(
        `${cut} of ${conversations.length} ${what} conversations are cut off at context=${context} tokens`,
      );
    if (countAnswerTokens(dataset) === 0)
      throw new AnnealError(
        `no answer of the ${what} data begins within context=${context} tokens; raise it`,
      );
    return dataset;
  };
  const dataset = encode(training, 'training');
  const { rowsPerEpoch } = batchesOf(config, dataset, context);
  return {
    bundle,
    context,
    training: dataset,
    validation: encode(validation, 'validation'),
    examples: validation,
    steps: config.steps ?? Math.max(1, Math.round((config.epochs * rowsPerEpoch) / config.batch)),
    rowsPerEpoch,
    notes,
  };
}

const batchesOf = ({ batch, packing, seed }: SftConfig, dataset: TokenDataset, context: number) =>
  new TokenBatches(dataset, { batch, context, mode: packing ? 'packed' : 'padded', seed });

/** Share of the runtime's best product rate that training steps reach, for the estimate of their time. */
const usualShare = 0.35;

async function derive(config: SftConfig, prepared: Prepared): Promise<Quantity[]> {
  const { bundle, context, training, validation, steps, rowsPerEpoch } = prepared;
  const { batch, method } = config;
  const parameters = parameterCount(bundle.model.config);
  const trained = method === 'lora' ? adapterSize(config, bundle) : parameters;
  const tokensPerStep = batch * context;
  const perToken = flopsPerToken(bundle.model.config, { length: context, training: true });
  // Frozen weights need no gradients of their own: a third of the products is not computed.
  const flopsPerStep = tokensPerStep * perToken * (method === 'lora' ? 2 / 3 : 1);
  const flops = steps * flopsPerStep;
  return [
    { name: 'parameters', value: parameters, unit: '' },
    { name: 'trainedParameters', value: trained, unit: '' },
    { name: 'trainingConversations', value: training.documents, unit: '' },
    { name: 'validationConversations', value: validation.documents, unit: '' },
    { name: 'trainingTokens', value: training.length, unit: '' },
    { name: 'answerTokens', value: countAnswerTokens(training), unit: '' },
    { name: 'tokensPerStep', value: tokensPerStep, unit: '' },
    { name: 'steps', value: steps, unit: '' },
    { name: 'epochs', value: (steps * batch) / rowsPerEpoch, unit: '' },
    // Weights, then gradients and AdamW's moments (twice, so that a step can be taken back) of what is trained.
    { name: 'memoryOfStates', value: 4 * (parameters + 5 * trained), unit: 'bytes' },
    { name: 'flopsPerStep', value: flopsPerStep, unit: 'FLOP' },
    { name: 'flops', value: flops, unit: 'FLOP' },
    { name: 'estimatedTime', value: flops / (usualShare * (await measurePeak())), unit: 'seconds' },
  ];
}

const peakRate = ({ optimizer, method }: SftConfig) => optimizer.lr ?? (method === 'lora' ? 2e-4 : 2e-5);

/** Answers to the first prompts of the validation data, each under its prompt. */
function sampler({ sample, seed }: SftConfig, { bundle, examples }: Prepared) {
  const { model, tokenizer, chatTemplate, endTokens } = bundle;
  const generator = new Generator(model, { slots: Math.min(sample.count, examples.length), tokenizer });
  const prompts = examples.slice(0, sample.count).map(({ messages, tools }) => {
    const last = messages.findLastIndex(({ role }) => role === 'assistant');
    const before = messages.slice(0, last);
    const options = { addGenerationPrompt: true, tools, eosToken: eosTokenOf(bundle) };
    const prompt = encodeChat(tokenizer, chatTemplate, before, options);
    return {
      prompt: prompt.subarray(0, generator.context - 1),
      question: String(before.at(-1)?.content ?? ''),
    };
  });
  const write = async () => {
    const completions = await generator.generate(
      prompts.map(({ prompt }) => ({
        prompt,
        maxTokens: sample.tokens,
        temperature: sample.temperature,
        seed,
        stopTokens: endTokens,
      })),
    );
    return completions.map(({ text }, i) => `> ${prompts[i]!.question}\n${text}\n`).join('\n');
  };
  return { write, close: () => generator.close() };
}

async function run(context: RunContext<SftConfig, Prepared>): Promise<RunOutcome> {
  const { config, prepared, directory, print } = context;
  const { bundle, steps } = prepared;
  const { model } = bundle;
  for (const note of prepared.notes) print(note);
  const parameters = trainedParameters(config, bundle);
  const files = filesOf(config, bundle);
  const samples = sampler(config, prepared);
  const { batch, packing } = config;
  const shape = [null, prepared.context];
  const packed = packing ? { documents: int32(shape), positions: int32(shape) } : {};
  const { beta1, beta2, weightDecay, clipNorm } = config.optimizer;
  const result = await train({
    parameters,
    inputs: { tokens: int32(shape), targets: int32(shape), weights: float32(shape), ...packed },
    loss: (inputs) => languageModelLoss(model, inputs),
    data: batchesOf(config, prepared.training, prepared.context),
    optimizer: adamW({
      lr: rateOf(config.schedule, peakRate(config), steps),
      beta1,
      beta2,
      weightDecay,
      clipNorm,
    }),
    steps,
    microBatches: config.microBatches,
    evaluate: {
      every: config.evaluate.every,
      batches: evaluationBatches(config, prepared),
      ...(config.evaluate.patience !== undefined && { patience: config.evaluate.patience }),
    },
    sample: { every: config.sample.every, run: samples.write },
    save: config.save,
    directory,
    config: context.record,
    modelFiles: files,
    units: { name: 'tokens', perStep: batch * prepared.context },
    progress: context.stream ? { stream: context.stream } : false,
    tensorBoard: context.tensorboard,
    signal: context.signal,
    handleSignals: false,
  });
  await samples.close();
  return conclude(context, result, files);
}

const evaluationBatches = (
  { batch, packing, evaluate }: SftConfig,
  { validation, context }: Prepared,
): LanguageBatch[] => validationBatches(validation, { batch, context, packing, limit: evaluate.batches });

/** Exports the best weights and says where they are. */
async function conclude(
  { config, prepared, directory }: RunContext<SftConfig, Prepared>,
  { step, reason, metrics, best, seconds }: TrainResult,
  files: ModelFiles,
): Promise<RunOutcome> {
  const round = (value: number) => Number(value.toFixed(4));
  const losses = {
    ...(metrics.loss !== undefined && { loss: round(metrics.loss) }),
    ...(best && { best: round(best.value), bestStep: best.step }),
    time: duration(seconds),
  };
  if (reason === 'aborted' || reason === 'interrupted') return { status: 'stopped', step, summary: losses };
  const checkpoint = await bestCheckpoint(directory);
  if (checkpoint) await files.read(checkpoint);
  const written = await exportModel(config, prepared.bundle, directory, checkpoint);
  return { status: 'finished', step, summary: { ...losses, model: written } };
}
