import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseHubAddress } from '../../src/recipes/hub-data.js';
import { readDocuments } from '../../src/recipes/lm-text.js';
import { readConversations } from '../../src/recipes/sft-data.js';
import { HubServer } from '../data/hub-server.js';

const bytes = (text: string) => new TextEncoder().encode(text);
const pinned = '1'.repeat(40);

describe('addresses', () => {
  it('are taken apart', () => {
    expect(parseHubAddress('book.txt')).toBeUndefined();
    expect(parseHubAddress('hf://datasets/owner/name')).toEqual({ repository: 'owner/name' });
    expect(parseHubAddress('hf://datasets/owner/name@v1/data/*.jsonl')).toEqual({
      repository: 'owner/name',
      revision: 'v1',
      files: 'data/*.jsonl',
    });
    expect(parseHubAddress('hf://datasets/o/n@refs%2Fconvert%2Fparquet')).toEqual({
      repository: 'o/n',
      revision: 'refs/convert/parquet',
    });
  });

  it.each(['hf://owner/name', 'hf://datasets/name', 'hf://models/owner/name', 'hf://'])(
    '%s is refused',
    (bad) => {
      expect(() => parseHubAddress(bad)).toThrow(`"${bad}" is no dataset of the Hub`);
    },
  );
});

describe('data of recipes', () => {
  const server = new HubServer();
  let folder: string;
  let url: string;
  beforeAll(async () => {
    server.commits.push({
      sha: pinned,
      files: {
        'train.jsonl': { content: bytes('{"text":"one","prompt":"p","completion":"c"}\n{"text":"two"}\n') },
        'test.jsonl': { content: bytes('{"text":"three"}\n') },
      },
    });
    server.refs.main = pinned;
    url = await server.start();
    folder = mkdtempSync(path.join(tmpdir(), 'anneal-hub-data-'));
    writeFileSync(path.join(folder, 'a.txt'), 'local');
  });
  afterAll(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });
  const hub = () => ({ offline: false, url, cache: path.join(folder, 'cache') });

  it('come from files and from the Hub, in the order of their addresses', async () => {
    const places = ['hf://datasets/owner/name/test.jsonl', path.join(folder, 'a.txt')];
    expect(await readDocuments(places, { hub: hub() })).toEqual(['three', 'local']);
    expect(await readDocuments('hf://datasets/owner/name', { hub: { ...hub(), split: 'train' } })).toEqual([
      'one',
      'two',
    ]);
  });

  it('are read without network once they are stored', async () => {
    await readDocuments('hf://datasets/owner/name', { hub: hub() });
    const before = server.requests.length;
    const texts = await readDocuments('hf://datasets/owner/name', { hub: { ...hub(), offline: true } });
    expect(texts.sort()).toEqual(['one', 'three', 'two']);
    expect(server.requests.length).toBe(before);
  });

  it('become conversations; what is none is named', async () => {
    const read = await readConversations('hf://datasets/owner/name@main', {}, undefined, hub());
    expect(read.conversations.map(({ messages }) => messages.map((one) => one.content))).toEqual([
      ['p', 'c'],
    ]);
    expect(read.notes[0]).toContain('2 items of the data are left out');
  });
});
