import { AnnealError } from '../../core/errors.js';
import type { Generation } from '../../generate/generation.js';
import type { Completion, GenerationRequest } from '../../generate/request.js';
import { type ModelFlags, openModel } from '../model.js';
import type { Cli } from '../terminal.js';

/** Flags that choose how tokens are drawn; shared by `sample` and `chat`. */
export interface SamplingFlags extends ModelFlags {
  tokens: number;
  temperature: number;
  topP: number;
  topK: number;
  minP: number;
  seed?: number;
}

interface Flags extends SamplingFlags {
  samples: number;
  stop?: readonly string[];
  json?: boolean;
}

/** The part of a request that flags decide. Without --seed every call draws anew. */
export const samplingOf = (flags: SamplingFlags) => ({
  maxTokens: flags.tokens,
  temperature: flags.temperature,
  topP: flags.topP,
  topK: flags.topK,
  minP: flags.minP,
  seed: flags.seed ?? Math.floor(Math.random() * 2 ** 31),
});

/** Writes a generation as it comes. What no token completed (half a character) comes with the result. */
export async function stream(generation: Generation, write: (text: string) => void): Promise<Completion> {
  let written = 0;
  for await (const { text } of generation) {
    write(text);
    written += text.length;
  }
  const completion = await generation.result;
  write(completion.text.slice(written));
  return completion;
}

async function readStandardInput(): Promise<string | undefined> {
  if (process.stdin.isTTY) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** `anneal sample MODEL [PROMPT…]`. */
export async function sample(this: Cli, flags: Flags, path: string, ...prompts: string[]): Promise<void> {
  const { terminal } = this;
  const interrupt = terminal.interrupts();
  const texts = prompts.length > 0 ? prompts : [(await readStandardInput()) ?? ''];
  const opened = await openModel(path, {
    slots: Math.min(texts.length * flags.samples, 16),
    packed: flags.packed === true,
  });
  const { generator, tokenizer, endTokens } = opened;
  const stop = AbortSignal.any([interrupt, terminal.onClosed]);
  const requests = texts.flatMap((text) => {
    const prompt = promptTokens(text, tokenizer);
    return Array.from({ length: flags.samples }, (_, i): GenerationRequest => {
      const sampling = samplingOf(flags);
      return {
        ...sampling,
        prompt,
        seed: (flags.seed ?? sampling.seed) + i,
        stopTokens: endTokens,
        signal: stop,
        ...(flags.stop && { stop: flags.stop }),
      };
    });
  });
  const promptOf = (i: number) => texts[Math.floor(i / flags.samples)]!;
  try {
    if (requests.length === 1 && !flags.json) {
      terminal.write(texts[0]!);
      await stream(generator.submit(requests[0]!), (text) => terminal.write(text));
      terminal.write('\n');
      return;
    }
    const completions = await generator.generate(requests);
    completions.forEach((completion, i) => {
      const { text, tokens, logprobs, finishReason } = completion;
      if (flags.json) {
        const numbers = { tokens: [...tokens], logprobs: [...logprobs], finishReason };
        terminal.json({ prompt: promptOf(i), text, seed: requests[i]!.seed, ...numbers });
      } else terminal.print(`${i > 0 ? '\n' : ''}--- ${i + 1} of ${requests.length}\n${promptOf(i)}${text}`);
    });
  } finally {
    await generator.close();
  }
}

/** Tokens of a prompt; an empty one begins a document. */
function promptTokens(
  text: string,
  tokenizer: { encode(text: string): Int32Array; endOfText: number | undefined },
) {
  if (text !== '') return tokenizer.encode(text);
  if (tokenizer.endOfText !== undefined) return Int32Array.of(tokenizer.endOfText);
  const newline = tokenizer.encode('\n');
  if (newline.length === 0)
    throw new AnnealError('this model needs a prompt: anneal sample MODEL "some text"');
  return newline;
}
