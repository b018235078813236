import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hubSnapshot } from '../../src/data/hub.js';
import { hubDocuments, hubRecords } from '../../src/data/hub-sources.js';
import { HubServer } from './hub-server.js';

const first = '1'.repeat(40);
const second = '2'.repeat(40);
const bytes = (text: string) => new TextEncoder().encode(text);

function parquet(texts: string[]): Uint8Array {
  return new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'text', data: texts, type: 'STRING' }] }));
}

let server: HubServer;
let hubUrl: string;
let cacheDir: string;

beforeEach(async () => {
  server = new HubServer();
  server.commits.push(
    {
      sha: first,
      files: {
        'README.md': { content: bytes('# Data') },
        'data/train-00000-of-00002.parquet': { content: parquet(['a', 'b']), lfs: true },
        'data/train-00001-of-00002.parquet': { content: parquet(['c']), lfs: true },
        'data/test-00000-of-00001.parquet': { content: parquet(['x']), lfs: true },
        'data/train.jsonl': { content: bytes('{"text":"a"}\n{"text":"b"}\n') },
      },
    },
    { sha: second, files: { 'train.jsonl': { content: bytes('{"text":"new"}\n') } } },
  );
  server.refs.main = first;
  hubUrl = await server.start();
  cacheDir = mkdtempSync(path.join(tmpdir(), 'anneal-hub-'));
});

afterEach(async () => {
  await server.stop();
  rmSync(cacheDir, { recursive: true });
});

const options = () => ({ hubUrl, cacheDir });

async function texts(source: AsyncIterable<{ text: string }>): Promise<string[]> {
  const list: string[] = [];
  for await (const { text } of source) list.push(text);
  return list;
}

describe('a dataset of the Hub', () => {
  it('is downloaded once, into the layout that other tools share', async () => {
    const snapshot = await hubSnapshot('owner/name', { ...options(), files: ['README.md', 'data/*.jsonl'] });
    const root = path.join(cacheDir, 'datasets--owner--name');
    expect(snapshot).toEqual({
      commit: first,
      folder: path.join(root, 'snapshots', first),
      files: ['README.md', 'data/train.jsonl'],
    });
    expect(readFileSync(path.join(root, 'refs/main'), 'utf8')).toBe(first);
    const link = path.join(snapshot.folder, 'data/train.jsonl');
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    // What `git hash-object` gives for the file.
    expect(readlinkSync(link)).toBe('../../../blobs/5c64676cd8c0d29c3204bab1497f05f5c765b161');
    expect(readdirSync(path.join(root, 'blobs'))).toHaveLength(2);
    expect(readFileSync(link, 'utf8')).toBe('{"text":"a"}\n{"text":"b"}\n');

    expect(server.downloads).toHaveLength(2);
    await hubSnapshot('owner/name', { ...options(), files: ['README.md', 'data/*.jsonl'] });
    expect(server.downloads).toHaveLength(2);
  });

  it('is read by splits, Parquet first', async () => {
    expect(await texts(hubDocuments('owner/name', { ...options(), split: 'train' }))).toEqual([
      'a',
      'b',
      'c',
    ]);
    expect(await texts(hubDocuments('owner/name', { ...options(), split: 'test' }))).toEqual(['x']);
    expect(await texts(hubDocuments('owner/name', options()))).toEqual(['x', 'a', 'b', 'c']);
    // Nothing else was fetched.
    expect(server.downloads.some((one) => one.includes('jsonl') || one.includes('README'))).toBe(false);
    const named = hubRecords('owner/name', { ...options(), files: 'data/*.jsonl' });
    expect(await texts(named as unknown as AsyncIterable<{ text: string }>)).toEqual(['a', 'b']);
    await expect(texts(hubDocuments('owner/name', { ...options(), split: 'dev' }))).rejects.toThrow(
      'owner/name at main has no file with data of the split "dev"',
    );
  });

  it('is pinned by a commit, and follows a branch', async () => {
    const read = (revision?: string) =>
      texts(hubDocuments('owner/name', { ...options(), split: 'train', ...(revision && { revision }) }));
    await read();
    server.refs.main = second;
    expect(await read()).toEqual(['new']);
    expect(await read(first)).toEqual(['a', 'b', 'c']);
    const source = hubDocuments('owner/name', options());
    const before = await source.fingerprint();
    server.refs.main = first;
    // A source stays with the commit that it began with.
    expect(await texts(source)).toEqual(['new']);
    expect(await source.fingerprint()).toBe(before);
  });

  it('is read without the network', async () => {
    const data = (more = {}) =>
      hubDocuments('owner/name', { ...options(), offline: true, split: 'train', ...more });
    await expect(texts(data())).rejects.toThrow(
      `owner/name at main is not stored in ${path.join(cacheDir, 'datasets--owner--name')}, and offline mode downloads nothing`,
    );
    expect(server.requests).toEqual([]);
    await texts(hubDocuments('owner/name', { ...options(), split: 'train' }));
    await server.stop();
    expect(await texts(data())).toEqual(['a', 'b', 'c']);
    expect(await texts(data({ revision: first }))).toEqual(['a', 'b', 'c']);
    await expect(texts(data({ revision: second }))).rejects.toThrow('is not stored in');
    await expect(texts(data({ split: 'test' }))).rejects.toThrow(
      /has no file stored in .* with data of the split "test"/,
    );
    await expect(texts(hubDocuments('owner/name', options()))).rejects.toThrow(
      `the dataset owner/name cannot be fetched from ${hubUrl} (ECONNREFUSED); try again, or use what is stored with offline: true`,
    );
    server = new HubServer();
    await server.start();
  });

  it('goes on with a download that broke off', async () => {
    const file = 'data/train.jsonl';
    server.cutAfter = 10;
    await expect(hubSnapshot('owner/name', { ...options(), files: file })).rejects.toThrow(
      'the dataset owner/name cannot be fetched from',
    );
    const blobs = path.join(cacheDir, 'datasets--owner--name/blobs');
    expect(readdirSync(blobs).filter((name) => !name.endsWith('.incomplete'))).toEqual([]);
    expect(existsSync(path.join(cacheDir, 'datasets--owner--name/snapshots'))).toBe(false);
    const { folder } = await hubSnapshot('owner/name', { ...options(), files: file });
    expect(server.downloads.at(-1)).toMatch(/ bytes=10-/);
    expect(readFileSync(path.join(folder, file), 'utf8')).toBe('{"text":"a"}\n{"text":"b"}\n');
    expect(readdirSync(blobs)).toHaveLength(1);
  });

  it.each(['data/train.jsonl', 'data/test-00000-of-00001.parquet'])(
    'does not keep damaged bytes of %s',
    async (file) => {
      server.corrupt = true;
      const take = () => hubSnapshot('owner/name', { ...options(), files: file });
      await expect(take()).rejects.toThrow(
        `what was downloaded of ${file} is not what the Hub lists (its hash differs)`,
      );
      expect(readdirSync(path.join(cacheDir, 'datasets--owner--name/blobs'))).toEqual([]);
      server.corrupt = false;
      expect((await take()).files).toEqual([file]);
    },
  );

  it('drops a left-over part that is no beginning of the file', async () => {
    const take = () => hubSnapshot('owner/name', { ...options(), files: 'README.md' });
    const { folder } = await take();
    const blob = path.resolve(folder, readlinkSync(path.join(folder, 'README.md')));
    rmSync(path.join(cacheDir, 'datasets--owner--name'), { recursive: true });
    await hubSnapshot('owner/name', { ...options(), files: 'data/train.jsonl' });
    writeFileSync(`${blob}.incomplete`, 'longer than the file is');
    expect(readFileSync(path.join((await take()).folder, 'README.md'), 'utf8')).toBe('# Data');
  });

  it('asks for a token where one is needed', async () => {
    server.token = 'secret';
    await expect(hubSnapshot('owner/name', options())).rejects.toThrow(
      `${hubUrl} refuses access to the dataset owner/name; check its name, or pass accessToken`,
    );
    const accessToken = 'hf_secret';
    server.token = accessToken;
    expect(
      (await hubSnapshot('owner/name', { ...options(), accessToken, files: 'README.md' })).files,
    ).toEqual(['README.md']);
  });

  it('that does not exist is named', async () => {
    await expect(hubSnapshot('owner/other', options())).rejects.toThrow(
      `${hubUrl} has no dataset owner/other at revision main; check both names`,
    );
    await expect(hubSnapshot('owner/name', { ...options(), revision: 'v2' })).rejects.toThrow(
      'at revision v2; check both names',
    );
    await expect(hubSnapshot('owner/name', { ...options(), files: '*.csv' })).rejects.toThrow(
      'owner/name at main has no file that matches *.csv',
    );
    await expect(hubSnapshot('../../etc', options())).rejects.toThrow(
      '"../../etc" is no repository of the Hub',
    );
  });

  it('cannot write outside its folder', async () => {
    server.commits[1]!.files = {
      '../../escaped.txt': { content: bytes('x') },
      'a.txt': { content: bytes('y') },
    };
    const { files } = await hubSnapshot('owner/name', { ...options(), revision: second });
    expect(files).toEqual(['a.txt']);
  });
});

it('a model of the Hub has a folder of its own', async () => {
  const { folder, files } = await hubSnapshot('owner/name', { ...options(), type: 'model', files: '*.md' });
  expect(folder).toBe(path.join(cacheDir, 'models--owner--name/snapshots', first));
  expect(files).toEqual(['README.md']);
});
