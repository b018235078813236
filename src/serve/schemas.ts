import { z } from 'zod';
import { ApiError } from './errors.js';

const stop = z
  .union([z.string().min(1), z.array(z.string().min(1)).max(16)])
  .nullish()
  .transform((value) => (typeof value === 'string' ? [value] : (value ?? [])));

const logitBias = z
  .record(z.string().regex(/^\d+$/, 'keys are token ids'), z.number().min(-100).max(100))
  .nullish()
  .transform((value) => new Map(Object.entries(value ?? {}).map(([token, bias]) => [Number(token), bias])));

/** Fields that both endpoints have. Unknown fields are ignored, as other servers do. */
const common = {
  model: z.string(),
  temperature: z.number().min(0).max(100).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: logitBias,
  n: z.int().min(1).max(128).nullish(),
  seed: z.int().min(0).nullish(),
  stop,
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  // Beyond OpenAI's API, named as other servers name them.
  top_k: z.int().min(0).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().gt(0).nullish(),
};

const tokenIds = z.array(z.int().min(0));

export const completionSchema = z.object({
  ...common,
  prompt: z.union([z.string(), z.array(z.string()).min(1), tokenIds.min(1), z.array(tokenIds.min(1)).min(1)]),
  max_tokens: z.int().min(0).nullish(),
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(20).nullish(),
  best_of: z.int().nullish(),
  suffix: z.string().nullish(),
});

const textPart = z.object({ type: z.literal('text', { error: 'only text is supported' }), text: z.string() });

const message = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content: z.union([z.string(), z.array(textPart)]).nullish(),
});

export const chatSchema = z.object({
  ...common,
  messages: z.array(message).min(1),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  tools: z.array(z.unknown()).nullish(),
  functions: z.array(z.unknown()).nullish(),
  response_format: z.object({ type: z.string() }).nullish(),
});

export type CompletionBody = z.infer<typeof completionSchema>;
export type ChatBody = z.infer<typeof chatSchema>;

/**
 * Reads a request's JSON.
 * @throws ApiError 400 that names the field
 */
export async function parseBody<T extends z.ZodType>(request: Request, schema: T): Promise<z.infer<T>> {
  let json: unknown;
  try {
    json = JSON.parse(await request.text());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ApiError(400, `the body is no JSON: ${error.message}`, 'invalid_json');
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const param = issue.path.join('.') || null;
  throw new ApiError(400, `${param ?? 'the body'}: ${issue.message}`, 'invalid_value', param);
}
