import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteTokenizer } from '../../src/data/byte-tokenizer.js';
import { packBestFit } from '../../src/data/pack.js';
import type { BatchMode } from '../../src/data/rows.js';
import { type LanguageBatch, sequentialBatches, TokenBatches } from '../../src/data/token-batches.js';
import { splitDocuments, splitTail, TokenDataset } from '../../src/data/token-dataset.js';
import { tokenize, tokenizeConversations } from '../../src/data/tokenize.js';

const modes: BatchMode[] = ['random', 'windows', 'packed', 'padded'];

/** Documents of the given lengths; the tokens count on from document to document. */
function counting(...lengths: number[]): TokenDataset {
  let next = 0;
  const documents = lengths.map((length) => ({ tokens: Array.from({ length }, () => next++) }));
  return TokenDataset.fromDocuments(documents, Math.max(next, 1));
}

const rowsOf = (batch: LanguageBatch, name: string) => batch[name]!.toArray() as number[][];
const mean = (values: ArrayLike<number>) => Array.from(values).reduce((sum, x) => sum + x, 0) / values.length;

describe('random windows', () => {
  it('are pieces of the stream with the tokens that follow', () => {
    const batches = new TokenBatches(counting(50, 50), { batch: 64, context: 7, mode: 'random', seed: 3 });
    const seen = new Set<number>();
    for (let n = 0; n < 40; n++) {
      const batch = batches.next();
      expect(batch.tokens.shape).toEqual([64, 7]);
      rowsOf(batch, 'tokens').forEach((row, i) => {
        expect(row).toEqual(row.map((_, at) => row[0]! + at));
        expect(rowsOf(batch, 'targets')[i]).toEqual(row.map((token) => token + 1));
        seen.add(row[0]!);
      });
      expect(new Set(batch.weights.data)).toEqual(new Set([1]));
    }
    // Every place from the first to the last is drawn.
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: 93 }, (_, i) => i));
  });
});

describe('windows side by side', () => {
  it('come once an epoch, in another order each', () => {
    const batches = new TokenBatches(counting(101), { batch: 4, context: 5, mode: 'windows' });
    const starts = () => rowsOf(batches.next(), 'tokens').map(([first]) => first!);
    const epoch = () => Array.from({ length: 5 }, starts).flat();
    const [one, two] = [epoch(), epoch()];
    const all = Array.from({ length: 20 }, (_, i) => 5 * i);
    expect([...one].sort((a, b) => a - b)).toEqual(all);
    expect([...two].sort((a, b) => a - b)).toEqual(all);
    expect(one).not.toEqual(all);
    expect(two).not.toEqual(one);
    expect(batches.epochs).toBe(2);
  });

  it('run on across the end of an epoch', () => {
    // 3 windows and rows of 2: every second batch takes from two epochs.
    const batches = new TokenBatches(counting(13), { batch: 2, context: 4, mode: 'windows' });
    const firsts = Array.from({ length: 6 }, () =>
      rowsOf(batches.next(), 'tokens').map(([first]) => first!),
    ).flat();
    for (let epoch = 0; epoch < 4; epoch++)
      expect(firsts.slice(3 * epoch, 3 * epoch + 3).sort((a, b) => a - b)).toEqual([0, 4, 8]);
  });
});

describe('packed documents', () => {
  it('keep documents apart and whole', () => {
    // Pairs (input, target) of the documents: 3, 2, 5 and, cut at 6, 6 + 2.
    const batches = new TokenBatches(counting(4, 3, 6, 9), { batch: 3, context: 6, mode: 'packed' });
    expect(batches.rowsPerEpoch).toBe(4);
    const batch = batches.next();
    const rest = batches.next();
    const pairs = new Set<string>();
    for (const [some, count] of [
      [batch, 3],
      [rest, 1],
    ] as const) {
      const [tokens, targets, documents, positions, weights] = [
        'tokens',
        'targets',
        'documents',
        'positions',
        'weights',
      ].map((name) => rowsOf(some, name).slice(0, count));
      tokens!.forEach((row, r) => {
        row.forEach((token, i) => {
          const isNew = documents![r]![i] !== documents![r]![i - 1];
          expect(positions![r]![i]).toBe(isNew ? 0 : positions![r]![i - 1]! + 1);
          if (!weights![r]![i]) return;
          expect(targets![r]![i]).toBe(token + 1);
          pairs.add(`${token}>${token + 1}`);
          if (!isNew) expect(token).toBe(row[i - 1]! + 1);
        });
      });
    }
    // All pairs inside documents, none across.
    const inside = [
      [0, 4],
      [4, 7],
      [7, 13],
      [13, 22],
    ].flatMap(([from, to]) =>
      Array.from({ length: to! - from! - 1 }, (_, i) => `${from! + i}>${from! + i + 1}`),
    );
    expect([...pairs].sort()).toEqual(inside.sort());
  });

  it('are laid out like this', () => {
    const data = TokenDataset.fromDocuments([{ tokens: [5, 6, 7] }], 8);
    const batch = new TokenBatches(data, { batch: 1, context: 4, mode: 'packed' }).next();
    expect(Object.fromEntries(Object.entries(batch).map(([name, value]) => [name, value.toArray()]))).toEqual(
      {
        tokens: [[5, 6, 0, 0]],
        targets: [[6, 7, 0, 0]],
        weights: [[2, 2, 0, 0]],
        documents: [[0, 0, 1, 1]],
        positions: [[0, 1, 0, 1]],
      },
    );
    expect(Object.values(batch).map(({ dtype }) => dtype)).toEqual([
      'int32',
      'int32',
      'float32',
      'int32',
      'int32',
    ]);
  });

  it('fill rows well', () => {
    const lengths = Array.from({ length: 3000 }, (_, i) => 1 + ((i * 7919) % 100));
    const rows = packBestFit(
      lengths.map((length, from) => ({ from, length })),
      128,
    );
    const used = lengths.reduce((sum, length) => sum + length, 0);
    expect(rows.flat().length).toBe(3000);
    for (const row of rows) expect(row.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(128);
    expect(used / (rows.length * 128)).toBeGreaterThan(0.97);
  });

  it('put each into the fullest row that has room', () => {
    const segments = [5, 7, 3, 2, 3].map((length, from) => ({ from, length }));
    // 5 | 7; 3 fills 7 up to 10, which closes it; 2 and 3 go to 5.
    expect(packBestFit(segments, 10).map((row) => row.map(({ from }) => from))).toEqual([
      [1, 2],
      [0, 3, 4],
    ]);
  });
});

describe('padded conversations', () => {
  const template =
    "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '<e>' }}{% endfor %}{% if add_generation_prompt %}{{ '<a>' }}{% endif %}";
  const tokenizer = new ByteTokenizer(['<e>', '<u>', '<a>']);
  const talk = (question: string, answer: string) => ({
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  });

  it('weigh answers only', async () => {
    const data = await tokenizeConversations([talk('hi', 'yo')], tokenizer, template);
    const batch = new TokenBatches(data, { batch: 1, context: 10, mode: 'padded' }).next();
    const [e, u, a] = [256, 257, 258];
    const text = (s: string) => [...s].map((c) => c.charCodeAt(0));
    expect(batch.tokens.toArray()).toEqual([[u, ...text('hi'), e, a, ...text('yo'), 0, 0, 0]]);
    expect(batch.targets.toArray()).toEqual([[...text('hi'), e, a, ...text('yo'), e, 0, 0, 0]]);
    // Three targets of ten positions count.
    const w = Math.fround(10 / 3);
    expect(batch.weights.toArray()).toEqual([[0, 0, 0, 0, w, w, w, 0, 0, 0]]);
    expect(Object.keys(batch)).toEqual(['tokens', 'targets', 'weights']);
  });

  it('leave out those whose answer lies past the context', async () => {
    const data = await tokenizeConversations(
      [talk('a long question', 'x'), talk('', 'y')],
      tokenizer,
      template,
    );
    const batches = new TokenBatches(data, { batch: 1, context: 8, mode: 'padded' });
    expect(batches.rowsPerEpoch).toBe(1);
    expect(rowsOf(batches.next(), 'targets')[0]).toContain('y'.charCodeAt(0));
    const long = await tokenizeConversations([talk('a long question', 'x')], tokenizer, template);
    expect(() => new TokenBatches(long, { batch: 1, context: 8, mode: 'padded' })).toThrow(
      'no document has anything to predict within a context of 8; lengthen the context',
    );
  });

  it.each([[{}], [{ messages: 'hi' }], [{ messages: [{ content: 'hi' }] }], [{ messages: [null] }]])(
    'are more than %j',
    async (one) => {
      await expect(
        tokenizeConversations([talk('a', 'b'), one as never], tokenizer, template),
      ).rejects.toThrow(
        'conversation 1 has no "messages": a list of objects with a role, such as { "role": "user", "content": "Hi" }',
      );
    },
  );

  it('name the one that cannot be used', async () => {
    const wrong = tokenizeConversations(
      [talk('a', 'b'), talk('a', 'b')],
      tokenizer,
      "{{ messages[0].content + x }}{{ raise_exception('no') }}",
    );
    await expect(wrong).rejects.toThrow('conversation 0: the chat template refuses these messages: ');
  });
});

/** A dataset with a mask, for all modes. */
const anyDataset = fc
  .array(fc.record({ length: fc.integer({ min: 1, max: 40 }), seed: fc.nat() }), {
    minLength: 3,
    maxLength: 20,
  })
  .map((documents) =>
    TokenDataset.fromDocuments(
      documents.map(({ length, seed }) => ({
        tokens: Array.from({ length: length + 8 }, (_, i) => (seed + i * i) % 300),
        mask: Array.from({ length: length + 8 }, (_, i) => ((seed >> (i % 8)) & 1) | +(i === 4)),
      })),
      300,
    ),
  );

describe.each(modes)('a stream of batches, %s', (mode) => {
  it('goes on from its state bit for bit, wherever it is cut', () => {
    fc.assert(
      fc.property(
        anyDataset,
        fc.integer({ min: 1, max: 5 }),
        fc.nat(12),
        fc.nat(12),
        fc.nat(1000),
        (data, batch, before, after, seed) => {
          const options = { batch, context: 6, mode, seed };
          const whole = new TokenBatches(data, options);
          for (let n = 0; n < before; n++) whole.next();
          const state = JSON.parse(JSON.stringify(whole.state()));
          const resumed = new TokenBatches(data, options);
          // Also a source that stands elsewhere.
          for (let n = 0; n < after; n++) resumed.next();
          resumed.restore(state);
          for (let n = 0; n < 8; n++) expect(resumed.next()).toEqual(whole.next());
        },
      ),
      { numRuns: 60 },
    );
  });

  it('has weights with a mean of 1, and valid ids', () => {
    fc.assert(
      fc.property(anyDataset, fc.integer({ min: 1, max: 5 }), (data, batch) => {
        const { tokens, targets, weights } = new TokenBatches(data, { batch, context: 12, mode }).next();
        const total = mean(weights.data);
        // A window may happen to have nothing to learn.
        if (total > 0 || mode === 'packed' || mode === 'padded') expect(total).toBeCloseTo(1, 5);
        for (const id of [...tokens.data, ...targets.data]) expect(id >= 0 && id < 300).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('depends on the seed', () => {
    const data = counting(...Array.from({ length: 40 }, (_, i) => 5 + (i % 7)));
    const first = (seed: number) => new TokenBatches(data, { batch: 8, context: 8, mode, seed }).next();
    expect(first(1)).toEqual(first(1));
    expect(first(1)).not.toEqual(first(2));
  });
});

describe('a state', () => {
  const options = { batch: 2, context: 4, mode: 'windows', seed: 0 } as const;
  const batches = () => new TokenBatches(counting(30, 30), options);

  it('is small and does not grow', () => {
    const stream = batches();
    for (let n = 0; n < 1000; n++) stream.next();
    expect(JSON.stringify(stream.state()).length).toBeLessThan(130);
  });

  it('of other data or settings is refused', () => {
    const state = batches().state();
    const other = new TokenBatches(counting(30, 31), options);
    expect(() => other.restore(state)).toThrow(
      /^the saved place in the data is one of dataset "\w{16}", and this is/,
    );
    const wider = new TokenBatches(counting(30, 30), { ...options, context: 5 });
    expect(() => wider.restore(state)).toThrow(
      'the saved place in the data is one of context 4, and this is context 5',
    );
    expect(() => batches().restore(null)).toThrow('the saved place in the data is one of dataset undefined');
    expect(() => batches().restore({ ...(state as object), row: -1 })).toThrow(
      'epoch 0, row -1 is no place in these data',
    );
  });

  it('knows every token, every border and every mask', () => {
    const print = (tokens: number[], mask?: number[], size = 300) =>
      TokenDataset.fromDocuments([{ tokens, mask }], size).fingerprint;
    const own = print([1, 2, 3]);
    expect(own).toBe(print([1, 2, 3]));
    const borders = TokenDataset.fromDocuments([{ tokens: [1] }, { tokens: [2, 3] }], 300).fingerprint;
    const prints = [
      own,
      print([1, 2, 4]),
      print([2, 1, 3]),
      print([1, 2, 3], [0, 1, 1]),
      print([1, 2, 3, 0]),
      borders,
    ];
    expect(new Set(prints).size).toBe(prints.length);
    // Two bytes or four: the same contents.
    expect(new TokenDataset(Int32Array.of(1, 2, 3), 300).fingerprint).toBe(own);
  });
});

it('all of a dataset comes once, in order, for evaluation', () => {
  const data = counting(11);
  const batches = [...sequentialBatches(data, { batch: 2, context: 4 })];
  expect(batches.map(({ counted }) => counted)).toEqual([8, 2]);
  expect(batches.map(({ batch }) => batch.tokens.toArray())).toEqual([
    [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ],
    [
      [8, 9, 0, 0],
      [0, 0, 0, 0],
    ],
  ]);
  expect(batches[1]!.batch.weights.toArray()).toEqual([
    [4, 4, 0, 0],
    [0, 0, 0, 0],
  ]);
  const documents = [...sequentialBatches(counting(3, 4, 9), { batch: 4, context: 5, documents: true })];
  expect(documents.map(({ counted }) => counted)).toEqual([2 + 3 + 8]);
});

describe('datasets', () => {
  it('store ids in two bytes where they fit', () => {
    expect(counting(3).tokens).toBeInstanceOf(Uint16Array);
    expect(TokenDataset.fromDocuments([{ tokens: [70000] }], 70001).tokens).toBeInstanceOf(Int32Array);
  });

  it('are made of documents, with or without their ends', async () => {
    const tokenizer = new ByteTokenizer();
    const ids = async (delimit?: 'after' | 'around' | 'none') => {
      const data = await tokenize(['a', '', { text: 'bc' }], tokenizer, delimit ? { delimit } : {});
      return [[...data.tokens], [...data.starts]];
    };
    expect(await ids()).toEqual([
      [97, 256, 98, 99, 256],
      [0, 2],
    ]);
    expect(await ids('around')).toEqual([
      [256, 97, 256, 256, 98, 99, 256],
      [0, 3],
    ]);
    expect(await ids('none')).toEqual([
      [97, 98, 99],
      [0, 1],
    ]);
    await expect(tokenize(['a'], new ByteTokenizer([]), { delimit: 'after' })).rejects.toThrow(
      'delimit is "after", but the vocabulary has no token that ends documents',
    );
  });

  it('are split at the tail', () => {
    const { train, validation } = splitTail(counting(6, 4, 10), 0.25);
    expect([...train.tokens]).toEqual(Array.from({ length: 15 }, (_, i) => i));
    expect([[...train.starts], [...validation.starts], validation.tokens[0]]).toEqual([[0, 6, 10], [0], 15]);
    expect([...splitTail(counting(6, 4, 10), 0.5).validation.starts]).toEqual([0]);
    expect([...splitTail(counting(6, 4, 10), 0.8).validation.starts]).toEqual([0, 2, 6]);
  });

  it('are split by documents', () => {
    const data = counting(...Array.from({ length: 20 }, (_, i) => 1 + i));
    const { train, validation } = splitDocuments(data, 0.2, 5);
    expect([train.documents, validation.documents]).toEqual([16, 4]);
    const tokens = [...train.tokens, ...validation.tokens].sort((a, b) => a - b);
    expect(tokens).toEqual([...data.tokens]);
    expect(train.tokens).toEqual(train.tokens.slice().sort());
    expect(splitDocuments(data, 0.2, 5).train.fingerprint).toBe(train.fingerprint);
    expect(splitDocuments(data, 0.2, 6).train.fingerprint).not.toBe(train.fingerprint);
  });

  it.each([
    [() => new TokenDataset(Uint16Array.of(1, 9), 9), 'token 9 is outside the vocabulary of 9'],
    [
      () => new TokenDataset(Uint16Array.of(1, 2), 9, Int32Array.of(0, 0)),
      'document starts must ascend from 0',
    ],
    [
      () => new TokenDataset(Uint16Array.of(1), 9, Int32Array.of(0), new Uint8Array(2)),
      'the mask has 2 entries for 1 tokens',
    ],
    [
      () => splitTail(counting(5), 1),
      'the validation share is 1; pass a fraction between 0 and 1, such as 0.1',
    ],
    [() => splitDocuments(counting(5), 0.1), 'a share of 0.1 of 1 documents leaves one part empty'],
    [
      () => new TokenBatches(counting(4), { batch: 1, context: 4, mode: 'random' }),
      '4 tokens are too few for a context of 4: a window needs one more than the context',
    ],
    [
      () => new TokenBatches(counting(1, 1), { batch: 1, context: 4, mode: 'packed' }),
      'no document has two tokens',
    ],
    [
      () => new TokenBatches(counting(9), { batch: 0, context: 4, mode: 'packed' }),
      'batch is 0; pass an integer of 1 or more',
    ],
  ])('refuse mistakes: %s', (make, message) => {
    expect(make).toThrow(message);
  });
});
