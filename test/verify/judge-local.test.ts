import { afterAll, describe, expect, it } from 'vitest';
import { ChatEndpoint, Judge, JudgeError, localModel, PromptTooLong } from '../../src/verify/judge/index.js';
import { served, start, stopAll } from '../serve/support.js';

afterAll(stopAll);

const request = {
  messages: [{ role: 'user' as const, content: 'Do they agree?' }],
  temperature: 0,
  maxTokens: 12,
};

describe('a local model', () => {
  it('replies as the same model does behind our server', async () => {
    const { url } = await start();
    const local = await localModel(served);
    const remote = new ChatEndpoint({ url: `${url}/v1`, model: served.name, retries: 0 });
    for (const temperature of [0, 1]) {
      const [here, there] = await Promise.all(
        [local, remote].map((model) => model.complete({ ...request, temperature, seed: 5 })),
      );
      expect(here!.text.length).toBeGreaterThan(0);
      expect({ ...here, ms: 0 }).toEqual({ ...there, ms: 0 });
    }
    await local.close();
  });

  it('judges many at once, each as it would alone', async () => {
    const judge = new Judge({
      model: await localModel(served, { slots: 4 }),
      rule: 'paper',
      maxTokens: 6,
      protocol: short,
    });
    const items = Array.from({ length: 9 }, (_, i) => ({ reference: 'x', answer: `answer ${i}` }));
    const together = await judge.verifyAll(items);
    for (const [i, item] of items.entries()) {
      const alone = await judge.verify(item);
      expect(alone.votes).toEqual(together[i]!.votes);
    }
    await judge.close();
    await expect(judge.verify(items[0]!)).rejects.toBeInstanceOf(JudgeError);
  });

  it('says which prompts it has no room for', async () => {
    const model = await localModel(served, { capacity: 32 });
    await expect(model.complete(request)).rejects.toBeInstanceOf(PromptTooLong);
    const verdict = await new Judge({ model }).verify({ reference: '1', answer: '1' });
    expect(verdict).toMatchObject({ verdict: 'abstain', reason: 'prompt-too-long' });
    await model.close();
  });

  it('needs a chat template', async () => {
    const { chatTemplate: _, ...bare } = served;
    await expect(localModel(bare)).rejects.toThrow(
      'the model tiny/model has no chat template, so it cannot judge; choose one that chats',
    );
  });
});

/** The tiny model has room for 256 characters. */
const short = {
  name: 'short',
  usesReference: true,
  messages: ({ answer }: { answer: string }) => [{ role: 'user' as const, content: answer }],
};
