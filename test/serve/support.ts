import OpenAI from 'openai';
import type { Transformer } from '../../src/models/lm/transformer.js';
import {
  type AnnealServer,
  createServer,
  type ServedModel,
  type ServerOptions,
} from '../../src/serve/index.js';
import { SpellingTokenizer, tinyModel } from '../generate/support.js';

/** Printable ASCII and the line feed, one token each, and a token that ends answers. */
const ascii = [...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)), '\n', ''];
export const endToken = 96;
export const tokenizer = new SpellingTokenizer(ascii);

export const template =
  '{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}';

export const model: Transformer = tinyModel({ vocabulary: 97, context: 256 }, 7);

export const served: ServedModel = {
  name: 'tiny/model',
  model,
  tokenizer,
  chatTemplate: template,
  endTokens: [endToken],
};

const servers: AnnealServer[] = [];

/** A server on a free port, with OpenAI's client pointed at it. */
export async function start(options: Partial<ServerOptions> = {}) {
  const errors: unknown[] = [];
  const server = createServer({
    models: [served],
    slots: 4,
    chunk: 64,
    onError: (error) => errors.push(error),
    ...options,
  });
  servers.push(server);
  const { url, port } = await server.listen(0);
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: options.keys?.[0] ?? 'none', maxRetries: 0 });
  /** One number from the metrics page. */
  const metric = async (series: string): Promise<number> => {
    const page = await (await fetch(`${url}/metrics`)).text();
    const line = page.split('\n').find((one) => one.startsWith(`${series} `));
    return line ? Number(line.slice(series.length + 1)) : Number.NaN;
  };
  const post = (path: string, body: unknown, init: RequestInit = {}) =>
    fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...init,
    });
  return { server, url, port, client, errors, metric, post };
}

export async function stopAll(): Promise<void> {
  await Promise.all(servers.splice(0).map((one) => one.close({ drainSeconds: 0 })));
}

/** Waits until `check` holds, for at most some seconds. */
export async function eventually(check: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
