/** A client of our server: streams of completions, with the moments at which their tokens came. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import readline from 'node:readline';
import { packageRoot } from '../report.js';

/** The compiled command line. */
export const ANNEAL = path.join(packageRoot, 'dist', 'cli', 'main.js');

/** A server in a process of its own. */
export interface RunningServer {
  url: string;
  model: string;
  stop(): Promise<void>;
}

/** Starts `anneal serve` on a free port. @throws Error with its last words if it ends before it listens */
export async function startServer(file: string, slots: number): Promise<RunningServer> {
  const args = [ANNEAL, 'serve', file, '--port', '0', '--slots', String(slots), '--name', 'benchmark'];
  const child: ChildProcess = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = once(child, 'close');
  let complaint = 'no message';
  child.stderr!.on('data', (data: Buffer) => {
    complaint = data.toString().trim() || complaint;
  });
  const url = await new Promise<string>((resolve, reject) => {
    readline.createInterface({ input: child.stdout! }).on('line', (line) => {
      const found = /at (http:\S+)/.exec(line)?.[1];
      if (found) resolve(found);
    });
    child.on('error', reject);
    child.on('close', (code) => reject(new Error(`anneal serve ended (exit code ${code}): ${complaint}`)));
  });
  return {
    url,
    model: 'benchmark',
    stop: async () => {
      child.kill('SIGKILL');
      await closed;
    },
  };
}

/** What a stream gave. */
export interface Stream {
  tokens: number;
  /** Milliseconds from one piece of text to the next. */
  gaps: number[];
}

/** Continues a prompt of token ids by `tokens` tokens, greedily. */
export async function streamCompletion(
  server: Pick<RunningServer, 'url' | 'model'>,
  prompt: readonly number[],
  tokens: number,
  banned: readonly number[],
): Promise<Stream> {
  const response = await fetch(`${server.url}/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: server.model,
      prompt,
      max_tokens: tokens,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
      // An answer that ends early would leave the batch smaller than it is meant to be.
      logit_bias: Object.fromEntries(banned.map((token) => [token, -100])),
    }),
  });
  if (!response.ok) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
  const stream: Stream = { tokens: 0, gaps: [] };
  let last: number | undefined;
  let rest = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body!) {
    const now = performance.now();
    const events = (rest + decoder.decode(bytes, { stream: true })).split('\n\n');
    rest = events.pop()!;
    for (const event of events) {
      if (event === 'data: [DONE]') continue;
      const { choices, usage } = JSON.parse(event.slice('data: '.length)) as {
        choices: { text: string }[];
        usage?: { completion_tokens: number } | null;
      };
      if (usage) stream.tokens = usage.completion_tokens;
      if (!choices[0]?.text) continue;
      if (last !== undefined) stream.gaps.push(now - last);
      last = now;
    }
  }
  if (stream.tokens !== tokens) throw new Error(`a stream has ${stream.tokens} tokens instead of ${tokens}`);
  return stream;
}
