import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ByteTokenizer } from '../../src/data/byte-tokenizer.js';
import { characterTokenizer } from '../../src/data/character-tokenizer.js';
import { cachedTokens, loadDataset, saveDataset } from '../../src/data/dataset-files.js';
import { documents } from '../../src/data/sources.js';
import { TokenDataset } from '../../src/data/token-dataset.js';
import { loadTokenizer, saveTokenizer } from '../../src/data/tokenizer-files.js';
import { trainBpe } from '../../src/data/train-bpe.js';

const folder = mkdtempSync(path.join(tmpdir(), 'anneal-files-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('a dataset on the disk', () => {
  const masked = (size: number) =>
    TokenDataset.fromDocuments(
      [{ tokens: [1, 2, size - 1], mask: [0, 1, 1] }, { tokens: [4] }, { tokens: [5, 6], mask: [0, 0] }],
      size,
    );

  it.each([
    ['two bytes a token', masked(65536), 6 * 2 + 3 * 4 + 6],
    ['four bytes a token', masked(65537), 6 * 4 + 3 * 4 + 6],
    ['no mask, an odd number of tokens', TokenDataset.fromDocuments([{ tokens: [7, 8, 9] }], 300), 3 * 2 + 4],
    ['nothing', new TokenDataset(new Uint16Array(0), 5), 0],
  ])('is read as it was written: %s', async (name, dataset, size) => {
    const base = path.join(folder, 'd', name);
    await saveDataset(base, dataset);
    const read = await loadDataset(base);
    expect(read).toEqual(dataset);
    expect(read.fingerprint).toBe(dataset.fingerprint);
    expect(statSync(`${base}.bin`).size).toBe(size);
  });

  it('is refused where it is damaged, and named', async () => {
    const base = path.join(folder, 'damaged');
    await saveDataset(base, masked(300));
    const file = `${base}.bin`;
    const whole = readFileSync(file);
    writeFileSync(file, Buffer.from(whole.map((byte, i) => (i === 0 ? byte ^ 2 : byte))));
    await expect(loadDataset(base)).rejects.toThrow(`${file} is damaged: its fingerprint differs; delete it`);
    writeFileSync(file, Buffer.from(whole.map((byte, i) => (i === 1 ? 99 : byte))));
    await expect(loadDataset(base)).rejects.toThrow(
      `${file} is damaged (token 25345 is outside the vocabulary of 300)`,
    );
    truncateSync(file, 10);
    await expect(loadDataset(base)).rejects.toThrow(
      `${file} has 10 bytes instead of 30; delete it and tokenize again`,
    );
    rmSync(file);
    await expect(loadDataset(base)).rejects.toThrow(`cannot read ${file}: it does not exist`);
    writeFileSync(`${base}.json`, '{}');
    await expect(loadDataset(base)).rejects.toThrow('describes no dataset of format anneal-tokens-1');
  });
});

describe('the cache of tokens', () => {
  const corpus = path.join(folder, 'corpus.txt');
  const directory = path.join(folder, 'cache');
  const tokenizer = new ByteTokenizer();
  const take = (more = {}, by = tokenizer) => cachedTokens(documents(corpus), by, { directory, ...more });
  const entries = () => readdirSync(directory).filter((name) => name.endsWith('.bin'));

  it('answers for the same text and tokenizer, and only for them', async () => {
    writeFileSync(corpus, 'abc');
    const first = await take();
    expect([...first.tokens]).toEqual([97, 98, 99, 256]);
    const [entry] = entries();
    const written = statSync(path.join(directory, entry!)).mtimeMs;
    expect(await take()).toEqual(first);
    expect(entries()).toEqual([entry]);
    expect(statSync(path.join(directory, entry!)).mtimeMs).toBe(written);
    // Another way to delimit, another tokenizer, another text.
    expect([...(await take({ delimit: 'none' })).tokens]).toEqual([97, 98, 99]);
    await take({}, new ByteTokenizer(['<end>']));
    writeFileSync(corpus, 'abd');
    expect([...(await take()).tokens]).toEqual([97, 98, 100, 256]);
    expect(entries()).toHaveLength(4);
  });

  it('replaces an entry that is damaged', async () => {
    writeFileSync(corpus, 'abc');
    const first = await take();
    for (const entry of entries()) truncateSync(path.join(directory, entry), 1);
    expect(await take()).toEqual(first);
    expect(await take()).toEqual(first);
  });
});

describe('a tokenizer on the disk', () => {
  const text = 'the cat sat on the mat, the cat did';

  it.each([
    ['bytes', async () => new ByteTokenizer()],
    ['characters', async () => characterTokenizer(text, { minCount: 2, endOfText: '<end>' })],
    ['byte pairs', async () => trainBpe([text], { vocabularySize: 270 })],
  ])('gives the same ids: %s', async (name, make) => {
    const tokenizer = await make();
    const target = path.join(folder, name);
    await saveTokenizer(target, tokenizer);
    // From the folder, from the file, from its contents.
    const file = path.join(target, 'tokenizer.json');
    for (const source of [target, file, JSON.parse(readFileSync(file, 'utf8')) as object]) {
      const read = await loadTokenizer(source, {
        endOfText: name === 'characters' ? '<end>' : '<|endoftext|>',
      });
      expect(read).toBeInstanceOf(tokenizer.constructor);
      expect([...read.encode(text)]).toEqual([...tokenizer.encode(text)]);
      expect([read.size, read.endOfText]).toEqual([tokenizer.size, tokenizer.endOfText]);
      expect(read.toJSON()).toEqual(tokenizer.toJSON());
    }
  });

  it('that cannot be read is named', async () => {
    const file = path.join(folder, 'broken.json');
    await expect(loadTokenizer(file)).rejects.toThrow(
      `cannot read ${file}: it does not exist; check the path`,
    );
    writeFileSync(file, '{');
    await expect(loadTokenizer(file)).rejects.toThrow(`${file} is no JSON (`);
    writeFileSync(file, '{}');
    await expect(loadTokenizer(file)).rejects.toThrow(`${file}: this is no tokenizer.json`);
  });
});
