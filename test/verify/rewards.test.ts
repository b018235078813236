import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { combineRewards, type RewardFunction, type Sample } from '../../src/rl/index.js';
import {
  answerReward,
  type CodeProblem,
  CodeVerifier,
  choiceReward,
  codeReward,
  HackMonitor,
  mathReward,
  rewardOf,
  splitTests,
  synthesiseHacks,
  textReward,
  type Verifier,
  verifierReward,
  visibleTests,
} from '../../src/verify/index.js';

describe('rewards of answers', () => {
  it('read completion and reference where they usually are', async () => {
    const math = mathReward();
    expect(await math({ completion: 'so \\boxed{0.5}', example: { gold: '1/2' } })).toMatchObject({
      score: 1,
      verdict: { verdict: 'correct', extracted: '0.5' },
    });
    expect(
      await math({ text: 'so \\boxed{2}', example: { question: '?', answer: 'thus #### 3' } }),
    ).toMatchObject({ score: 0 });
    expect(await math({ text: '3', example: { target: 3 } })).toMatchObject({ score: 1 });
  });

  it('are null where the verifier abstains, whatever wrong answers cost', async () => {
    const math = mathReward({ incorrect: -1, correct: 2 });
    const scores = await rewardOf(math)([
      { completion: '1', example: { gold: '1' } },
      { completion: '2', example: { gold: '1' } },
      { completion: '2', example: { gold: '\\frac{' } },
    ]);
    expect(scores).toEqual([2, -1, null]);
  });

  it('know choices with their question, texts, and any kind', async () => {
    const question = 'Which is round?\n(A) square\n(B) circle';
    expect(await choiceReward()({ text: 'a circle', example: { question, gold: 'B' } })).toMatchObject({
      score: 1,
    });
    const aliases = { usa: ['united states'] };
    expect(await textReward({ aliases })({ text: 'United States', example: { gold: 'USA' } })).toMatchObject({
      score: 1,
    });
    const any = answerReward({ reference: ({ row }) => (row as { key: string }).key });
    expect(await any({ text: 'It is (C).', example: { row: { key: 'C' } } })).toMatchObject({ score: 1 });
  });

  it('take any verifier, and hand it the signal', async () => {
    const seen: unknown[] = [];
    const verifier: Verifier = {
      name: 'shy',
      verify: (item, options?: { signal?: AbortSignal }) => {
        seen.push(item, options?.signal?.aborted);
        return Promise.resolve({ verdict: 'correct', reason: 'r', ms: 0 });
      },
    };
    const scored: unknown[] = [];
    const reward = rewardOf(verifierReward(verifier), ({ verdict }) => scored.push(verdict.reason));
    const samples = [{ text: 'a', example: { prompt: 'q', gold: 'g' } }];
    expect(await reward(samples, { signal: new AbortController().signal })).toEqual([1]);
    expect([seen, scored]).toEqual([[{ answer: 'a', reference: 'g', question: 'q' }, false], ['r']]);
  });

  it.each<[object, string]>([
    [
      { text: 'x', example: { question: '?' } },
      'an example has no "gold" or "reference" or "answer" or "solution" or "target" (its fields are question); name',
    ],
    [{ text: 'x', example: 5 }, "a sample's example is 5; a reward reads its reference from it"],
    [{ example: { gold: '1' } }, 'a sample has neither "completion" nor "text"'],
    [
      { text: 'x', example: { gold: [1] } },
      'the reference of an example is [1]; it must be a text or a number',
    ],
  ])('fail on %j rather than score it', async (sample, message) => {
    await expect(mathReward()(sample as never)).rejects.toThrow(message);
  });

  it('fit the reward functions of a run', async () => {
    const math: RewardFunction<{ gold: string }> = rewardOf(mathReward());
    const sample = (text: string): Sample<{ gold: string }> => ({
      group: 0,
      example: { gold: '4' },
      prompt: new Int32Array(1),
      tokens: new Int32Array(1),
      logprobs: new Float32Array(1),
      sampledLogprobs: new Float32Array(1),
      text,
      finishReason: 'stop',
    });
    const { rewards } = await combineRewards({ math })([sample('\\boxed{4}'), sample('\\boxed{5}')], {
      step: 0,
      signal: new AbortController().signal,
    });
    expect(rewards).toEqual([1, 0]);
  });
});

describe('rewards of programs', () => {
  const tests = [2, 3, 5, 7, 9, 12].map((x) => ({ kind: 'call' as const, args: [x], expected: x * x + 1 }));
  const problem: CodeProblem = { id: 'p', language: 'javascript', entry: 'f', tests };
  const fence = (code: string) => `\`\`\`js\n${code}\n\`\`\``;
  const honest = fence('const f = (x) => x * x + 1');
  let verifier: CodeVerifier;
  beforeAll(async () => {
    verifier = await CodeVerifier.open({ workers: 2, sandboxes: ['quickjs'] });
  });
  afterAll(() => verifier.close());

  /** A table of the tests, of which a policy sees the visible ones. */
  const table = (shown: CodeProblem['tests']) =>
    fence(
      `const t = { ${shown.map((one) => (one.kind === 'call' ? `${one.args[0]}: ${one.expected}` : '')).join(', ')} }; const f = (x) => t[x]`,
    );

  it('hide tests, so that who knows the visible ones earns nothing under any policy', async () => {
    const example = { problem };
    const shown = visibleTests(splitTests(problem));
    expect(shown).toHaveLength(4);
    for (const policy of ['penalise', 'log'] as const) {
      const reward = rewardOf(codeReward({ verifier, policy }));
      expect(
        await reward([
          { text: honest, example },
          { text: table(shown), example },
        ]),
      ).toEqual([1, 0]);
    }
  });

  it.each([
    ['penalise', 0],
    ['drop', null],
    ['log', 1],
  ] as const)('of a flagged program that passes everything, with %s: %s', async (policy, score) => {
    const monitor = new HackMonitor();
    const reward = codeReward({ verifier, policy, monitor, problem: () => problem });
    const found = await reward({ text: table(tests), example: {} });
    expect(found).toMatchObject({ score, verdict: { verdict: 'correct' }, inspection: { flagged: true } });
    expect(monitor.report()).toMatchObject({ samples: 1, flagged: { count: 1, of: 1 } });
    expect(monitor.report().policy).toEqual({
      penalised: { count: policy === 'penalise' ? 1 : 0, of: 1 },
      dropped: { count: policy === 'drop' ? 1 : 0, of: 1 },
    });
  });

  it('are null where nothing could be run, and refuse what is no problem', async () => {
    const reward = codeReward({ verifier });
    const python = { ...problem, language: 'python' as const };
    expect(await reward({ text: honest, example: python })).toMatchObject({ score: null });
    await expect(reward({ text: honest, example: { problem: 5 } })).rejects.toThrow(
      'an example is no problem',
    );
    expect(() => codeReward({ verifier, policy: 'ban' as never })).toThrow(
      'policy is "ban"; pass penalise, drop or log',
    );
    expect(synthesiseHacks(splitTests(python)).length).toBeGreaterThan(0);
  });
});
