/** One completion that a policy sampled. */
export interface Sample<Example = unknown> {
  /** Index of its prompt in the batch of prompts: samples of one prompt share it. */
  readonly group: number;
  /** What the prompt was made of. */
  readonly example: Example;
  /** Token ids. */
  readonly prompt: Int32Array;
  /** Token ids as they were sampled, never tokenised again; the stop token included. */
  readonly tokens: Int32Array;
  /** Log-probability of each token under the model, at temperature 1. */
  readonly logprobs: Float32Array;
  /** The same under the distribution that was sampled from: after temperature and filters. */
  readonly sampledLogprobs: Float32Array;
  /** The completion as text, without stop token and special end. */
  readonly text: string;
  readonly finishReason: 'stop' | 'length' | 'cancelled';
  /** 1 where the policy chose the token, 0 where an environment wrote it. Absent: all 1. */
  readonly mask?: Uint8Array;
}
