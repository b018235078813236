import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { fileError } from '../checkpoint/file-source.js';
import { ProtoWriter } from '../onnx/protobuf.js';
import type { Metrics, RunEvent } from './events.js';

/** CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), a byte at a time. */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c >>> 0;
});

/** CRC-32C of some bytes. */
export function crc32c(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = table[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
}

/** The checksum of a TFRecord: rotated and shifted, so that the checksum of data that holds checksums stays good. */
export function maskedCrc(bytes: Uint8Array): number {
  const c = crc32c(bytes);
  return (((c >>> 15) | (c << 17)) + 0xa282ead8) >>> 0;
}

/** A TFRecord: length, its checksum, the data, its checksum; all little-endian. */
export function tfRecord(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(16 + data.length);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc(data), true);
  return record;
}

/** What an event file can say here. Field numbers are those of tensorflow/core/util/event.proto. */
export type BoardEvent = {
  /** Seconds since 1970. */
  wallTime: number;
  step: number;
} & ({ fileVersion: string } | { scalars: Readonly<Record<string, number>> } | { isSessionStart: true });

/** A serialized tensorflow.Event. */
export function encodeEvent(event: BoardEvent): Uint8Array {
  const writer = new ProtoWriter(256);
  // From the highest field to the lowest, as the writer wants it.
  if ('isSessionStart' in event) {
    const session = writer.length;
    writer.int(1, 1);
    writer.message(7, session);
  } else if ('scalars' in event) {
    const summary = writer.length;
    for (const [tag, value] of Object.entries(event.scalars).reverse()) {
      const one = writer.length;
      writer.float(2, value);
      writer.string(1, tag);
      writer.message(1, one);
    }
    writer.message(5, summary);
  } else {
    writer.string(3, event.fileVersion);
  }
  if (event.step !== 0) writer.int(2, event.step);
  writer.double(1, event.wallTime);
  return writer.finish();
}

const numbers = (prefix: string, metrics: Metrics): Record<string, number> =>
  Object.fromEntries(
    Object.entries(metrics).flatMap(([name, value]) =>
      value === null ? [] : [[`${prefix}/${name}`, value]],
    ),
  );

/** Copies the numbers of a run into an event file that TensorBoard shows: <directory>/tensorboard/events.out.tfevents.…. */
export class TensorBoardWriter {
  private readonly descriptor: number;
  private readonly file: string;

  /** @throws AnnealError if the file cannot be made. */
  constructor(directory: string) {
    const now = Date.now() / 1000;
    const folder = path.join(directory, 'tensorboard');
    // Each session has a file of its own; TensorBoard reads them in the order of their names.
    const name = `events.out.tfevents.${now.toFixed(3)}.${hostname()}.${process.pid}`;
    this.file = path.join(folder, name);
    try {
      mkdirSync(folder, { recursive: true });
      this.descriptor = openSync(this.file, 'a');
    } catch (error) {
      throw fileError('write', this.file, error);
    }
    this.write({ wallTime: now, step: 0, fileVersion: 'brain.Event:2' });
  }

  /** Takes part in the run as a listener of its events. */
  see(event: RunEvent): void {
    const { step } = event;
    const wallTime = event.time / 1000;
    if (event.kind === 'train') {
      const { loss, lr, gradNorm, rate, metrics = {}, phase = 'train' } = event;
      const scalars = { ...numbers(phase, { loss, lr, gradNorm, rate }), ...numbers(phase, metrics) };
      this.write({ wallTime, step, scalars });
    } else if (event.kind === 'evaluate') {
      this.write({ wallTime, step, scalars: numbers('evaluate', event.metrics) });
    } else if (event.kind === 'resume') {
      // Makes TensorBoard drop what the killed session wrote from here on.
      this.write({ wallTime, step: step + 1, isSessionStart: true });
    }
  }

  private write(event: BoardEvent): void {
    const record = tfRecord(encodeEvent(event));
    try {
      let done = 0;
      while (done < record.length) done += writeSync(this.descriptor, record, done);
    } catch (error) {
      throw fileError('write', this.file, error);
    }
  }

  close(): void {
    closeSync(this.descriptor);
  }
}
