import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  ChatEndpoint,
  diskCache,
  type EndpointOptions,
  Judge,
  JudgeError,
  type JudgeOptions,
  majority,
  memoryCache,
  rulesThenJudge,
  tolerant,
  withoutReference,
} from '../../src/verify/judge/index.js';
import type { Outcome, Verifier, VerifyItem } from '../../src/verify/verdict.js';
import { type Answer, JudgeServer, no, refuse, reply, yes } from './judge-server.js';

const server = new JudgeServer();
beforeAll(() => server.start());
afterAll(() => server.stop());
beforeEach(() => server.reset());

type Options = Omit<Partial<JudgeOptions>, 'model'> & { endpoint?: Partial<EndpointOptions> };
const judgeOf = ({ endpoint, ...options }: Options = {}) =>
  new Judge({
    model: new ChatEndpoint({ url: server.url, model: 'judge-1', firstPauseMs: 1, retries: 1, ...endpoint }),
    ...options,
  });

const item = { question: 'What is 6 · 7?', reference: '42', answer: 'It is \\boxed{42}.' };

describe('a judge', () => {
  it.each<[string, Answer, Outcome, string]>([
    ['Yes', yes, 'correct', 'judge-yes'],
    ['No', no, 'incorrect', 'judge-no'],
    ['no closing line', reply('Yes, they agree.'), 'abstain', 'judge-unclear'],
    ['half a reply', reply('Final Judgment: Yes would be', 'length'), 'abstain', 'judge-cut-off'],
    ['an empty reply', reply(null, 'length'), 'abstain', 'judge-cut-off'],
    ['a refusal', reply('Final Judgment: Yes', 'content_filter'), 'abstain', 'judge-refused'],
    [
      'a prompt beyond the context',
      refuse(400, {}, 'maximum context length is 10'),
      'abstain',
      'prompt-too-long',
    ],
  ])('makes a verdict of %s', async (_, answer, verdict, reason) => {
    server.otherwise = answer;
    expect(await judgeOf().verify(item)).toMatchObject({ verdict, reason });
  });

  it('tells what its verdict rests on', async () => {
    const { ms, ...rest } = await judgeOf().verify(item);
    expect(rest).toEqual({
      verdict: 'correct',
      reason: 'judge-yes',
      votes: [{ text: 'They agree.\nFinal Judgment: Yes', verdict: 'correct', finish: 'stop' }],
      calls: 1,
      tokens: 110,
    });
    expect(ms).toBeGreaterThan(0);
    expect(server.asked[0]!.body).toMatchObject({ temperature: 0, max_tokens: 2048 });
    expect(server.asked[0]!.body).not.toHaveProperty('seed');
  });

  it('shows the reference, or does not', async () => {
    await judgeOf().verify({ ...item, reference: 'forty-two' });
    await judgeOf({ protocol: withoutReference }).verify({ ...item, reference: 'forty-two' });
    const [first, second] = server.asked.map(({ body }) => body.messages[0]!.content);
    expect(first).toContain('forty-two');
    expect(second).not.toContain('forty-two');
  });

  it.each(['', '  \n', '{', '…', ':', '$\\;$', '.'])('rejects %j without a call', async (answer) => {
    expect(await judgeOf().verify({ ...item, answer })).toMatchObject({
      verdict: 'incorrect',
      reason: 'empty-answer',
      calls: 0,
    });
    expect(server.asked).toEqual([]);
  });

  it.each(['B', '7', '∞', '是'])('takes %j for an answer', async (answer) => {
    expect((await judgeOf().verify({ ...item, answer })).reason).toBe('judge-yes');
  });

  it('sees the end of a long answer, and what `show` makes of it', async () => {
    await judgeOf({ maxChars: 9 }).verify({ ...item, answer: `${'x'.repeat(100)}😀 is 42.` });
    await judgeOf({ maxChars: 8 }).verify({ ...item, answer: '😀 is 42.' });
    await judgeOf({ show: ({ answer }) => answer.slice(-4, -2) }).verify({ ...item, answer: 'is {42}.' });
    const solutions = server.asked.map(
      ({ body }) => /<solution>\n(.*)\n<\/solution>/s.exec(body.messages[0]!.content)![1],
    );
    expect(solutions).toEqual(['[…]😀 is 42.', '[…] is 42.', '42']);
  });

  it('never throws for what stands in the texts', async () => {
    const judge = judgeOf({ cache: memoryCache() });
    const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string());
    await fc.assert(
      fc.asyncProperty(text, text, text, async (question, reference, answer) => {
        expect(['correct', 'incorrect']).toContain(
          (await judge.verify({ question, reference, answer })).verdict,
        );
      }),
      { numRuns: 50 },
    );
    for (const broken of [null, {}, { answer: 1 }, { answer: 'x' }])
      expect(await judge.verify(broken as unknown as VerifyItem)).toMatchObject({
        verdict: 'abstain',
        reason: 'not-a-text',
      });
  });

  it('fails by an error that names the item, not by a verdict', async () => {
    server.otherwise = refuse(500);
    const named = judgeOf().verify({ ...item, id: 'q17' });
    await expect(named).rejects.toThrow(/^q17: the judge judge-1 at .* replies with status 500/);
    await expect(named).rejects.toBeInstanceOf(JudgeError);
    await expect(judgeOf().verify(item)).rejects.toThrow(/^the item "What is 6 · 7\?": the judge/);
    server.otherwise = (response) => void response.end('garbage');
    await expect(judgeOf().verify({ ...item, id: 'q18' })).rejects.toThrow(
      /^q18: the judge judge-1 .* cannot be understood: it replies with no JSON but "garbage" \(2 tries\)$/,
    );
  });

  it('judges many together and stops at the first failure', async () => {
    server.otherwise = (response, asked) =>
      (asked.body.messages[0]!.content.includes('<solution>\n7') ? no : yes)(response, asked);
    const items = Array.from({ length: 10 }, (_, i) => ({ ...item, answer: String(i) }));
    const verdicts = await judgeOf().verifyAll(items);
    expect(verdicts.map(({ verdict }) => verdict === 'correct')).toEqual(items.map((_, i) => i !== 7));
    server.otherwise = refuse(401);
    await expect(judgeOf().verifyAll(items)).rejects.toBeInstanceOf(JudgeError);
  });

  it.each<[Options, string]>([
    [{ votes: 2 }, "the judge's votes are 2; pass an odd number, so that they decide"],
    [{ votes: 0 }, "the judge's votes is 0; pass a whole number from 1"],
    [{ maxTokens: 1.5 }, "the judge's maxTokens is 1.5; pass a whole number from 1"],
  ])('refuses %j', (options, message) => {
    expect(() => judgeOf(options)).toThrow(message);
  });
});

describe('several votes', () => {
  const unclear = reply('Hm.');
  it.each<[number, Answer[], Outcome, string, number]>([
    [3, [yes, yes], 'correct', 'judge-yes', 2],
    [3, [no, no], 'incorrect', 'judge-no', 2],
    [3, [yes, no, no], 'incorrect', 'judge-no', 3],
    [3, [unclear, yes, yes], 'correct', 'judge-yes', 3],
    [3, [unclear, unclear, yes], 'correct', 'judge-yes', 3],
    [3, [unclear, yes, no], 'abstain', 'judge-tie', 3],
    [3, [unclear, unclear, unclear], 'abstain', 'judge-unclear', 3],
    [5, [yes, no, yes, yes], 'correct', 'judge-yes', 4],
    [5, [yes, no, no, yes, no], 'incorrect', 'judge-no', 5],
  ])('of %i: case %#', async (votes, script, verdict, reason, calls) => {
    server.script = [...script];
    server.otherwise = refuse(500);
    // One at a time, so that the script's order is the votes'.
    const got = await judgeOf({ votes, endpoint: { concurrency: 1 } }).verify(item);
    expect(got).toMatchObject({ verdict, reason, calls });
    expect(server.asked.map(({ body }) => [body.seed, body.temperature])).toEqual(
      Array.from({ length: calls }, (_, i) => [i, 0.7]),
    );
  });
});

describe('a cache', () => {
  const folder = () => mkdtempSync(path.join(os.tmpdir(), 'anneal-judge-'));
  const files = (at: string) =>
    (readdirSync(at, { recursive: true }) as string[]).filter((name) => name.endsWith('.json'));

  it('answers what was asked before, in another process too', async () => {
    const at = folder();
    const first = await judgeOf({ cache: diskCache(at) }).verify(item);
    const second = await judgeOf({ cache: diskCache(at) }).verify(item);
    expect(server.asked).toHaveLength(1);
    expect({ ...second, ms: 0 }).toEqual({ ...first, ms: 0, calls: 0 });
    expect(files(at)).toHaveLength(1);
    expect(files(at)[0]).toMatch(/^([0-9a-f]{2})[\\/]\1[0-9a-f]{62}\.json$/);
  });

  it('keeps apart what differs in anything that matters', async () => {
    const cache = memoryCache();
    const ask = (options: Options, over = {}) => judgeOf({ cache, ...options }).verify({ ...item, ...over });
    await ask({});
    await ask({}, { answer: '43' });
    await ask({}, { reference: '43' });
    await ask({}, { question: 'other' });
    await ask({ maxTokens: 7 });
    await ask({ temperature: 1 });
    await ask({ temperature: 1, seed: 1 });
    await ask({ protocol: withoutReference });
    await ask({ endpoint: { model: 'judge-2' } });
    await ask({ endpoint: { body: { top_k: 1 } } });
    expect(server.asked).toHaveLength(10);
    // The name of the item and the key do not matter.
    await ask({ endpoint: { apiKey: 'k' } }, { id: 'q' });
    expect(server.asked).toHaveLength(10);
  });

  it('asks once for what is asked at the same time', async () => {
    const judge = judgeOf({ cache: memoryCache() });
    const verdicts = await Promise.all([1, 2, 3].map(() => judge.verify(item)));
    expect(server.asked).toHaveLength(1);
    expect(verdicts.map(({ calls }) => calls).sort()).toEqual([0, 0, 1]);
  });

  it('does not keep failures, and votes are asked apart', async () => {
    const cache = memoryCache();
    server.script = [refuse(401)];
    await expect(judgeOf({ cache }).verify(item)).rejects.toBeInstanceOf(JudgeError);
    expect((await judgeOf({ cache }).verify(item)).verdict).toBe('correct');
    server.reset();
    await judgeOf({ cache, votes: 3 }).verify(item);
    expect(server.asked).toHaveLength(2);
  });

  it.each(['', '{"format"', 'null', '{"format":"anneal-judge-reply-1","text":"Final Judgment: Yes"}'])(
    'replaces a damaged entry: %j',
    async (content) => {
      const at = folder();
      await judgeOf({ cache: diskCache(at) }).verify(item);
      const file = path.join(at, files(at)[0]!);
      const good = readFileSync(file, 'utf8');
      writeFileSync(file, content);
      expect((await judgeOf({ cache: diskCache(at) }).verify(item)).calls).toBe(1);
      expect(readFileSync(file, 'utf8')).toBe(good);
    },
  );
});

/** A verifier that says what it is told. */
const saying = (verdict: Outcome, name: string = verdict): Verifier => ({
  name,
  verify: () => ({ verdict, reason: `${name}-reason`, extracted: name, ms: 1 }),
});

describe('rules, then a judge', () => {
  it.each<[Outcome, Answer, Outcome, string, number]>([
    ['correct', no, 'correct', 'rules-reason', 0],
    ['incorrect', yes, 'correct', 'judge-yes', 1],
    ['incorrect', no, 'incorrect', 'judge-no', 1],
    ['abstain', yes, 'correct', 'judge-yes', 1],
    ['abstain', reply('Hm'), 'abstain', 'rules-reason', 1],
    ['incorrect', reply('Hm'), 'incorrect', 'rules-reason', 1],
  ])('rules say %s: case %#', async (said, answer, verdict, reason, calls) => {
    server.otherwise = answer;
    const both = rulesThenJudge(saying(said, 'rules'), judgeOf());
    const got = await both.verify(item);
    expect(got).toMatchObject({ verdict, reason, extracted: 'rules' });
    expect(got.members.map(({ name }) => name)).toEqual(calls ? ['rules', 'judge-1'] : ['rules']);
    expect(server.asked).toHaveLength(calls);
  });

  it('may be told when to ask', async () => {
    const both = rulesThenJudge(saying('abstain'), judgeOf(), { after: ['incorrect'] });
    expect((await both.verify(item)).verdict).toBe('abstain');
    expect(server.asked).toEqual([]);
  });
});

describe('a majority', () => {
  it.each<[Outcome[], Outcome, string]>([
    [['correct', 'correct', 'incorrect'], 'correct', 'majority-2-1'],
    [['correct', 'incorrect', 'incorrect'], 'incorrect', 'majority-1-2'],
    [['correct', 'abstain', 'abstain'], 'correct', 'majority-1-0'],
    [['correct', 'incorrect', 'abstain'], 'abstain', 'tie'],
    [['abstain', 'abstain'], 'abstain', 'all-abstain'],
  ])('of %j', async (outcomes, verdict, reason) => {
    const got = await majority(outcomes.map((one) => saying(one))).verify(item);
    expect(got).toMatchObject({ verdict, reason, ms: outcomes.length });
    expect(got.members.map((member) => member.verdict)).toEqual(outcomes);
  });

  it('of one is refused', () => {
    expect(() => majority([saying('correct')])).toThrow(
      'majority of 1 verifiers; pass at least two, better three',
    );
  });
});

describe('tolerance', () => {
  it('makes abstentions of failures, and shows them', async () => {
    server.script = [refuse(500), refuse(500)];
    const failures: string[] = [];
    const judge = tolerant(judgeOf(), ({ message }) => failures.push(message));
    expect(await judge.verify(item)).toMatchObject({ verdict: 'abstain', reason: 'judge-unreachable' });
    expect(await judge.verify(item)).toMatchObject({ verdict: 'correct' });
    expect(failures).toHaveLength(1);
  });

  it('does not hide defects', async () => {
    const broken: Verifier = { name: 'broken', verify: () => Promise.reject(new TypeError('x')) };
    await expect(tolerant(broken, () => {}).verify(item)).rejects.toBeInstanceOf(TypeError);
  });
});
