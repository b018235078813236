import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  type BoardEvent,
  crc32c,
  encodeEvent,
  TensorBoardWriter,
  tfRecord,
} from '../../src/train/tensorboard.js';

/** Written by the tensorboard package; see test/golden/record_tensorboard.py. */
const golden: { event: BoardEvent; record: string }[] = JSON.parse(
  readFileSync(new URL('../golden/tensorboard.json', import.meta.url), 'utf8'),
);
const folder = mkdtempSync(path.join(os.tmpdir(), 'anneal-board-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('TensorBoard event files', () => {
  it('have the checksum of RFC 3720, appendix B.4', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
  });

  it.each(golden.map(({ event, record }, i) => [i, event, record] as const))(
    'record %i has the bytes of the tensorboard package',
    (_, event, record) => {
      expect(hex(tfRecord(encodeEvent(event)))).toBe(record);
    },
  );

  it('hold what a run reports, and mark where a resumed session begins', () => {
    const writer = new TensorBoardWriter(folder);
    const base = { time: 1764000000125, step: 300 };
    writer.see({
      ...base,
      kind: 'train',
      loss: 0.1,
      lr: 3e-4,
      gradNorm: 2,
      ms: 5,
      rate: 9,
      metrics: { z: null },
    });
    writer.see({ ...base, kind: 'evaluate', metrics: { loss: 2.5 }, isBest: true, ms: 1 });
    writer.see({ ...base, step: 40, kind: 'resume', microBatches: 1 });
    writer.see({ ...base, kind: 'note', text: 'nothing for TensorBoard' });
    writer.close();
    const [name] = readdirSync(path.join(folder, 'tensorboard')) as [string];
    expect(name).toMatch(/^events\.out\.tfevents\.\d+\.\d+\..+\.\d+$/);
    const bytes = readFileSync(path.join(folder, 'tensorboard', name));
    const wallTime = base.time / 1000;
    const train = { 'train/loss': 0.1, 'train/lr': 3e-4, 'train/gradNorm': 2, 'train/rate': 9 };
    const expected: BoardEvent[] = [
      { wallTime, step: 300, scalars: train },
      { wallTime, step: 300, scalars: { 'evaluate/loss': 2.5 } },
      { wallTime, step: 41, isSessionStart: true },
    ];
    const rest = Buffer.concat(expected.map((event) => tfRecord(encodeEvent(event))));
    expect(bytes.subarray(-rest.length).equals(rest)).toBe(true);
    // Before it only the record of the file's version, whose time is that of the writing.
    expect(bytes.length - rest.length).toBe(golden[0]!.record.length / 2);
  });
});
