import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, describe, expect, it } from 'vitest';
import { findFiles, globPattern } from '../../src/data/glob.js';
import { documents, records, type SkippedLine } from '../../src/data/sources.js';

const folder = mkdtempSync(path.join(tmpdir(), 'anneal-sources-'));
afterAll(() => rmSync(folder, { recursive: true }));

function put(name: string, content: string | Uint8Array): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const texts = async (source: AsyncIterable<{ text: string }>) => (await all(source)).map(({ text }) => text);

describe('patterns', () => {
  it.each([
    ['*.txt', ['a.txt', 'txt.txt'], ['a/b.txt', '.a.txt', 'atxt']],
    ['a/**/b.txt', ['a/b.txt', 'a/x/b.txt', 'a/x/y/b.txt'], ['b.txt', 'a/x/c.txt', 'a/.x/b.txt']],
    ['**', ['a', 'a/b', 'a/b/c.d'], ['.a', 'a/.b', '']],
    ['a/**', ['a/b', 'a/b/c'], ['a', 'b/a']],
    ['{a,b}-?.{txt,md}', ['a-1.txt', 'b-2.md'], ['c-1.txt', 'a-12.txt', 'a-/.txt']],
    ['[a-c][!x].t+t', ['ab.t+t', 'cz.t+t'], ['db.t+t', 'ax.t+t', 'a/.t+t', 'ab.ttt']],
    ['.hidden/*', ['.hidden/a'], ['xhidden/a']],
    ['a(b)|c$^', ['a(b)|c$^'], ['ab']],
  ])('%s', (pattern, matching, others) => {
    const regex = globPattern(pattern);
    expect(matching.filter((one) => !regex.test(one))).toEqual([]);
    expect(others.filter((one) => regex.test(one))).toEqual([]);
  });

  it.each([
    ['**a', 'in the pattern **a, ** must be a whole part of the path'],
    ['[a', 'the pattern [a has a [ without its ]'],
    ['{a', 'the pattern {a has a { without its }'],
  ])('%s is refused', (pattern, message) => {
    expect(() => globPattern(pattern)).toThrow(message);
  });

  it('find files, sorted, each once', async () => {
    for (const name of ['g/b.txt', 'g/a.txt', 'g/deep/er/c.txt', 'g/d.md', 'g/.e.txt', 'g/[odd].txt'])
      put(name, 'x');
    symlinkSync(path.join(folder, 'g'), path.join(folder, 'g/deep/loop'));
    symlinkSync(path.join(folder, 'g/d.md'), path.join(folder, 'g/link.txt'));
    const found = async (...patterns: string[]) =>
      (await findFiles(patterns.map((one) => path.join(folder, 'g', one)))).map((file) =>
        path.relative(path.join(folder, 'g'), file),
      );
    expect(await found('*.txt')).toEqual(['[odd].txt', 'a.txt', 'b.txt', 'link.txt']);
    expect(await found('b.txt', '**/*.txt')).toEqual([
      'b.txt',
      '[odd].txt',
      'a.txt',
      'deep/er/c.txt',
      'link.txt',
    ]);
    expect(await found('[odd].txt')).toEqual(['[odd].txt']);
    await expect(found('*.pdf')).rejects.toThrow(/^no file matches .*\*\.pdf; check the pattern$/);
    await expect(found('deep')).rejects.toThrow(
      /deep is a folder; say which of its files, as in .*deep\/\*\.txt$/,
    );
    await expect(found('no.txt')).rejects.toThrow(/^there is no file .*no\.txt; check the path$/);
  });
});

describe('text', () => {
  it('is a document a file, or cut at a separator', async () => {
    const file = put('t/a.txt', '\ufeffone\n\ntwo é\n\n\n\nthree');
    expect(await all(documents(file))).toEqual([{ text: 'one\n\ntwo é\n\n\n\nthree', path: file }]);
    expect(await texts(documents(file, { separator: '\n\n' }))).toEqual(['one', 'two é', 'three']);
    put('t/b.txt.gz', gzipSync('packed'));
    expect(await texts(documents(path.join(folder, 't/*')))).toEqual(['one\n\ntwo é\n\n\n\nthree', 'packed']);
  });

  it('may have separators and characters across the pieces in which it is read', async () => {
    const parts = Array.from({ length: 3000 }, (_, i) => 'é🙂'.repeat(i % 50) + i);
    const file = put('t/long.txt', parts.join('<sep>'));
    expect(await texts(documents(file, { separator: '<sep>' }))).toEqual(parts);
  });
});

describe('JSONL', () => {
  const good = ['{"text":"a","n":1}', '', '{"text":"b"}\r', '{"text":"c"}'];

  it('gives records with their fields', async () => {
    const file = put('j/good.jsonl', good.join('\n'));
    expect(await all(documents(file))).toEqual([{ text: 'a', n: 1 }, { text: 'b' }, { text: 'c' }]);
    expect(await all(records(file))).toHaveLength(3);
    const named = put('j/named.ndjson', '{"body":"x","text":7}\n');
    expect(await all(documents(named, { text: 'body' }))).toEqual([{ body: 'x', text: 'x' }]);
    expect(await texts(documents(put('j/z.jsonl.gz', gzipSync(good.join('\n')))))).toEqual(['a', 'b', 'c']);
  });

  it('passes over corrupt lines, counts them and names them', async () => {
    const file = put(
      'j/bad.jsonl',
      ['{"text":"a"}', '{"text":"b"', '[1]', '{"txt":"c"}', '{"text":"d"}'].join('\n'),
    );
    const seen: SkippedLine[] = [];
    const source = documents(file, { onSkip: (line) => seen.push(line) });
    expect(await texts(source)).toEqual(['a', 'd']);
    expect(seen.map(({ line }) => line)).toEqual([2, 3, 4]);
    expect(seen.map(({ file }) => file)).toEqual([file, file, file]);
    expect(seen[0]!.reason).toMatch(/^no JSON \(/);
    expect(seen.slice(1).map(({ reason }) => reason)).toEqual([
      'no JSON object',
      'no text in the field "text"',
    ]);
    expect(source.skipped).toEqual(seen);
    // Reading again counts again.
    await all(source);
    expect(source.skipped).toHaveLength(3);
  });

  it('is an error where too many lines are corrupt', async () => {
    const file = put('j/worse.jsonl', `${'oops\n'.repeat(3)}{"text":"a"}\n`);
    const onSkip = () => undefined;
    expect(await texts(documents(file, { maxCorrupt: 3, onSkip }))).toEqual(['a']);
    await expect(all(documents(file, { maxCorrupt: 2, onSkip }))).rejects.toThrow(
      `3 corrupt lines, and 2 are allowed; the last is line 3 of ${file}: no JSON (`,
    );
  });

  it('warns of corrupt lines where nobody listens', async () => {
    const file = put('j/warn.jsonl', 'x\n');
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
    await all(documents(file));
    const { name, message } = await warned;
    expect(name).toBe('CorpusWarning');
    expect(message).toContain(`left out line 1 of ${file}: no JSON (`);
  });
});

describe('Parquet', () => {
  const rows = Array.from({ length: 1000 }, (_, i) => ({ text: `row ${i} ${'é'.repeat(i % 20)}`, n: i }));
  const columns = [
    { name: 'text', data: rows.map(({ text }) => text), type: 'STRING' as const },
    { name: 'n', data: rows.map(({ n }) => n), type: 'INT32' as const },
  ];
  const bytes = () => new Uint8Array(parquetWriteBuffer({ columnData: columns, rowGroupSize: 300 }));

  it('is read row group by row group', async () => {
    const file = put('p/a.parquet', bytes());
    expect(await all(documents(file))).toEqual(rows);
    expect(await all(documents(file, { columns: ['text'] }))).toEqual(rows.map(({ text }) => ({ text })));
    // Stopping early closes the file.
    for await (const row of records(file)) {
      expect(row.n).toBe(0);
      break;
    }
  });

  it('reads what pyarrow wrote with other codecs', async () => {
    // Written by test/golden/record_parquet.py.
    const file = new URL('../golden/codecs', import.meta.url).pathname;
    for (const codec of ['zstd', 'gzip', 'snappy', 'brotli', 'lz4'])
      expect(await texts(documents(path.join(file, `${codec}.parquet`)))).toEqual(
        ['eins', 'zwei', 'drei é'].concat(Array(97).fill('same')),
      );
  });

  it('says what is wrong with it', async () => {
    const file = put('p/b.parquet', bytes());
    await expect(all(documents(file, { text: 'body' }))).rejects.toThrow(
      `${file} has no text in the column "body"; its columns are text, n`,
    );
    await expect(all(records(file, { columns: ['n', 'm'] }))).rejects.toThrow(
      `${file} has no column "m"; its columns are text, n`,
    );
    truncateSync(file, 1000);
    await expect(all(records(file))).rejects.toThrow(`${file} is no readable Parquet file (`);
    expect(() => put('p/c.parquet', '')).not.toThrow();
    await expect(all(records(path.join(folder, 'p/c.parquet')))).rejects.toThrow(
      'is no readable Parquet file',
    );
  });

  it('passes over rows without text', async () => {
    const data = ['a', null, 'b'];
    const file = put(
      'p/null.parquet',
      new Uint8Array(
        parquetWriteBuffer({ columnData: [{ name: 'text', data, type: 'STRING', nullable: true }] }),
      ),
    );
    expect(await texts(documents(file))).toEqual(['a', 'b']);
  });
});

describe('a corpus', () => {
  it('that loses a file while it is read says which', async () => {
    put('lost/a.txt', 'a');
    const second = put('lost/b.txt', 'b');
    const reading = (async () => {
      for await (const _ of documents(path.join(folder, 'lost/*.txt'))) rmSync(second, { force: true });
    })();
    await expect(reading).rejects.toThrow(
      `the corpus file ${second} disappeared while the corpus was being read; put it back and start again`,
    );
  });

  it('whose file vanishes or changes in the middle of it says which', async () => {
    const lines = Array.from({ length: 50000 }, (_, n) => `{"text":"${n}"}`).join('\n');
    const vanishing = put('lost/v.jsonl', lines);
    const reading = (async () => {
      for await (const { text } of documents(vanishing)) if (text === '10') rmSync(vanishing);
    })();
    await expect(reading).rejects.toThrow(`the corpus file ${vanishing} disappeared`);
    const changing = put('lost/c.jsonl', lines);
    const other = (async () => {
      for await (const { text } of documents(changing)) if (text === '10') truncateSync(changing, 100);
    })();
    await expect(other).rejects.toThrow(
      `the corpus file ${changing} changed while it was being read; start again`,
    );
  });

  it('with a damaged gzip file says which', async () => {
    const packed = gzipSync('x'.repeat(100000));
    const file = put('z/cut.txt.gz', packed.subarray(0, packed.length - 20));
    await expect(all(documents(file))).rejects.toThrow(`${file} is no complete gzip file (`);
    await expect(all(documents(put('z/no.txt.gz', 'plain')))).rejects.toThrow('is no complete gzip file (');
  });

  it('has a fingerprint of its contents, not of its names', async () => {
    const print = (name: string, options = {}) => documents(path.join(folder, name), options).fingerprint();
    put('f/a.txt', 'one');
    put('f/b.txt', 'one');
    put('f/c.txt', 'two');
    expect(await print('f/a.txt')).toBe(await print('f/b.txt'));
    expect(await print('f/a.txt')).not.toBe(await print('f/c.txt'));
    expect(await print('f/a.txt')).not.toBe(await print('f/a.txt', { separator: '\n' }));
    expect(await print('f/[ab].txt')).not.toBe(await print('f/a.txt'));
  });

  it('of text has no records', async () => {
    await expect(all(records(put('r.txt', 'x')))).rejects.toThrow(
      'has no records; records are read from .jsonl, .ndjson and .parquet files',
    );
  });

  it.skipIf(process.getuid?.() === 0 || process.platform === 'win32')(
    'that may not be read says so',
    async () => {
      const file = put('locked.txt', 'x');
      execFileSync('chmod', ['000', file]);
      await expect(all(documents(file))).rejects.toThrow(`cannot read ${file}: permission is denied`);
    },
  );
});
