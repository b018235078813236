import { AnnealError } from '../core/errors.js';
import { float32, int32 } from '../core/feeds.js';
import { TokenBatches } from '../data/token-batches.js';
import { TokenDataset } from '../data/token-dataset.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { languageModelLoss } from '../models/lm/loss.js';
import type { Transformer } from '../models/lm/transformer.js';
import { adamW } from '../optim/adamw.js';
import { groups } from '../optim/groups.js';
import { muon } from '../optim/muon.js';
import { cosine, warmup } from '../optim/schedule.js';
import type { TrainOptions, TrainResult } from '../train/options.js';
import { train } from '../train/train.js';
import type { TextExample } from './tasks/examples.js';

/** Settings of `warmStart`; the rest is the training loop's. */
export interface WarmStartOptions
  extends Pick<
    TrainOptions<Record<string, never>>,
    'directory' | 'config' | 'signal' | 'handleSignals' | 'progress' | 'onEvent' | 'modelFiles'
  > {
  /** Updates. */
  steps: number;
  /** Rows of a batch, each packed with whole examples. */
  batch: number;
  /** Tokens of a row. Default: the model's context. */
  context?: number;
  /**
   * Peak learning rates of Muon, which gets the matrices inside the layers, and of AdamW, which gets the rest. They rise over a
   * tenth of the steps and fall to a tenth of themselves. Defaults 0.02 and 2e-3.
   */
  muonLr?: number;
  lr?: number;
  /** Order of the examples. Default 0. */
  seed?: number;
}

/**
 * Examples as tokens, each closed by the token that ends texts; only completions, and that end, are to be learnt.
 * Prompt and completion are encoded apart, as they are when a policy samples.
 * @throws AnnealError if the tokenizer has no such token, or an example does not fit into `context`
 */
export function encodeExamples(
  examples: readonly TextExample[],
  tokenizer: Tokenizer,
  context: number,
): TokenDataset {
  const { endOfText } = tokenizer;
  if (endOfText === undefined)
    throw new AnnealError(
      'the tokenizer has no token that ends texts, so completions could not learn to end; use one with endOfText',
    );
  const documents = examples.map(({ prompt, completion }, i) => {
    const asked = tokenizer.encode(prompt);
    const told = tokenizer.encode(completion);
    const tokens = Int32Array.of(...asked, ...told, endOfText);
    if (tokens.length > context + 1)
      throw new AnnealError(
        `example ${i} has ${tokens.length} tokens, the rows ${context + 1}; raise context`,
      );
    return { tokens, mask: new Uint8Array(tokens.length).fill(1, asked.length) };
  });
  return TokenDataset.fromDocuments(documents, tokenizer.size);
}

/**
 * Supervised fine-tuning before reinforcement: teaches a policy the form of its responses, so that rewards can be
 * found at all. Whole examples are packed into rows; the loss is on completions. Muon, because a small model finds out
 * where to look in a prompt in several times fewer steps than with AdamW.
 * @throws AnnealError as `encodeExamples` and `train`
 */
export function warmStart(
  model: Transformer,
  tokenizer: Tokenizer,
  examples: readonly TextExample[],
  options: WarmStartOptions,
): Promise<TrainResult> {
  const { steps, batch, lr = 2e-3, muonLr = 0.02, seed = 0, ...others } = options;
  const { context = model.config.context, ...loop } = others;
  const rows = [null, context];
  const rate = (peak: number) => warmup(Math.max(1, Math.round(steps / 10)), cosine(peak, steps, peak / 10));
  return train({
    ...loop,
    parameters: model,
    inputs: {
      tokens: int32(rows),
      targets: int32(rows),
      weights: float32(rows),
      documents: int32(rows),
      positions: int32(rows),
    },
    loss: (inputs) => languageModelLoss(model, inputs),
    data: new TokenBatches(encodeExamples(examples, tokenizer, context), {
      batch,
      context,
      mode: 'packed',
      seed,
    }),
    optimizer: groups(
      [
        { name: 'matrices', match: ({ role }) => role === 'matrix', optimizer: muon({ lr: rate(muonLr) }) },
        { name: 'rest', optimizer: adamW({ lr: rate(lr), beta2: 0.98 }) },
      ],
      { clipNorm: 1 },
    ),
    steps,
    units: { name: 'tokens', perStep: batch * context },
  });
}
