import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { Rng } from '../../src/core/random.js';
import { trainBpe } from '../../src/data/index.js';
import { llamaConfig, Transformer } from '../../src/models/index.js';
import { defaultChatTemplate } from '../../src/models/lm/chat-template.js';
import { saveLanguageModel } from '../../src/models/lm/save.js';
import { parametersOf } from '../../src/nn/module.js';
import { anneal, ended, printed, scratch, start } from '../support/command.js';

let cwd: string;

/** A model of random weights that has a chat template: it talks nonsense, but the same nonsense every time. */
beforeAll(async () => {
  cwd = scratch();
  const special = ['<|im_start|>', '<|im_end|>'];
  const tokenizer = await trainBpe(['hello there'], { vocabularySize: 260, special });
  const model = new Transformer(
    llamaConfig({ vocabulary: tokenizer.size, dim: 32, layers: 1, context: 8192 }),
    { rng: new Rng(1) },
  );
  // Larger than at the start of a training: so the prompt matters.
  for (const module of [model.embedding, model.layers[0]!.attention]) enlarge(module);
  const { template, endToken } = defaultChatTemplate(tokenizer);
  await saveLanguageModel(path.join(cwd, 'model'), {
    model,
    tokenizer,
    chatTemplate: template,
    endTokens: [endToken],
  });
});

/** Multiplies every weight of a module. */
function enlarge(module: object): void {
  for (const { data } of parametersOf(module).values()) data.set(data.map((x) => 20 * Number(x)) as never);
}

const chat = (...flags: string[]) => ['chat', 'model', '--seed', '7', ...flags];
const brief = (...flags: string[]) => chat('--tokens', '12', ...flags);
const answers = (out: string) => out.split(' …\n').slice(0, -1);

describe('anneal chat', () => {
  it('answers lines from a pipe, each in the light of those before', async () => {
    const { code, out, err } = await anneal(
      brief('--temperature', '0'),
      cwd,
      'hello\nhello\n/reset\nhello\n',
    );
    expect([code, err]).toEqual([0, '']);
    const [first, second, third] = answers(out);
    expect(answers(out)).toHaveLength(3);
    expect(second).not.toBe(first);
    expect(third).toBe(first);
  });

  it('puts the system message first', async () => {
    const [plain] = answers((await anneal(brief('--temperature', '0'), cwd, 'hello\n')).out);
    const told = await anneal(brief('--temperature', '0', '--system', 'there there'), cwd, 'hello\n');
    expect(answers(told.out)[0]).not.toBe(plain);
  });

  it('explains its commands, and leaves at /exit', async () => {
    const { code, out } = await anneal(brief(), cwd, '/what\n\n/exit\nhello\n');
    expect(code).toBe(0);
    expect(out).toBe('/reset begins a new conversation, /exit (or Ctrl-D) leaves, Ctrl-C stops an answer\n');
  });

  it('refuses a message that is longer than its context, and goes on', async () => {
    const { code, out, err } = await anneal(brief(), cwd, `${'x'.repeat(9000)}\nhello\n`);
    expect(code).toBe(0);
    expect(err).toBe('the conversation is longer than the 8192 tokens that the model can read; /reset\n');
    expect(answers(out)).toHaveLength(1);
  });

  it('stops an answer at Ctrl-C, and leaves at Ctrl-C while it waits', async () => {
    const child = start(chat('--tokens', '8000'), cwd, null);
    child.stdin!.write('hello\n');
    await printed(child, /./);
    child.kill('SIGINT');
    await printed(child, / \(stopped\)\n$/);
    const stopped = child.output().out.length;
    child.stdin!.write('hello\n');
    await printed(child, new RegExp(`^[\\s\\S]{${stopped + 1}}`));
    child.kill('SIGINT');
    await printed(child, / \(stopped\)\n[\s\S]* \(stopped\)\n$/);
    child.kill('SIGINT');
    await ended(child);
    expect(child.output()).toMatchObject({ code: 130, err: '' });
  });
});
