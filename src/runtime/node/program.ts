import { allocate, dtypes, type TypedArray } from '../../core/dtype.js';
import type { ExecutableSpec, Port, Slot, SlotBinding } from '../backend.js';
import type { Environment } from './environment.js';
import { type OrtApi, type Pointer, pointerArray, type Status, statusText } from './ort-api.js';
import {
  type Counters,
  FeedValue,
  type NameArray,
  nameArray,
  type SlotTable,
  type SlotValues,
  sizeOf,
  wrap,
} from './tensors.js';

/** Tensors up to this many bytes are copied: that is cheaper than making an OrtValue. */
const largestStaged = 4096;

/** A port with its bytes, and the persistent buffer of a small one. */
interface BoundPort {
  port: Port;
  length: number;
  bytes: number;
  staging: TypedArray | undefined;
}

/** Arrays of the run under way. Native code reaches them, so the callback of the run must hold this. */
interface Flight {
  feeds: readonly TypedArray[];
  /** Sparse until the run ends: small results are copied out of staging then. */
  results: TypedArray[];
  /** Bytes of the large feeds and results. */
  bytes: number;
}

/** A slot with its places in the pointer arrays; -1 where the program does not read or assign it. */
interface BoundSlot {
  slot: Slot;
  values: SlotValues;
  input: number;
  output: number;
  inPlace: boolean;
}

/**
 * The native side of an executable: a session and everything that its runs point at. Names and pointer
 * arrays are built once; a run refreshes the pointers of slots and of large tensors.
 *
 * It does not know the executable that owns it, so that the owner can be collected.
 */
export class Program {
  readonly #environment: Environment;
  readonly #counters: Counters;
  readonly #label: string;
  readonly #session: Pointer;
  readonly #inputs: readonly BoundPort[];
  readonly #outputs: readonly BoundPort[];
  readonly #slots: readonly BoundSlot[];
  readonly #feedValues: readonly FeedValue[];
  readonly #inputNames: NameArray;
  readonly #outputNames: NameArray;
  readonly #inputValues: BigUint64Array;
  readonly #outputValues: BigUint64Array;
  /** Small tensors keep their OrtValue for good, so that a run only copies their elements. */
  readonly #stagingValues: Pointer[] = [];
  readonly #heldBytes: number;
  /** Runs that wait in the queue or are under way. */
  #users = 0;
  #isDisposed = false;

  constructor(
    environment: Environment,
    counters: Counters,
    slots: SlotTable,
    spec: ExecutableSpec,
    session: Pointer,
  ) {
    this.#environment = environment;
    this.#counters = counters;
    this.#label = spec.label;
    this.#session = session;
    this.#inputs = spec.inputs.map(bindPort);
    this.#outputs = spec.outputs.map(bindPort);
    this.#feedValues = spec.inputs.map(() => new FeedValue());
    const inputNames = spec.inputs.map((port) => port.name);
    const outputNames = spec.outputs.map((port) => port.name);
    this.#slots = spec.slots.map((binding) => bindSlot(binding, slots, inputNames, outputNames));
    for (const names of [inputNames, outputNames]) checkDistinct(spec.label, names);
    this.#inputNames = nameArray(environment, inputNames);
    this.#outputNames = nameArray(environment, outputNames);
    this.#inputValues = pointerArray(inputNames.length);
    this.#outputValues = pointerArray(outputNames.length);
    this.#wrapStaging(this.#inputs, this.#inputValues);
    this.#wrapStaging(this.#outputs, this.#outputValues);
    this.#heldBytes = [...this.#inputs, ...this.#outputs].reduce((n, p) => n + (p.staging ? p.bytes : 0), 0);
    counters.executables++;
    counters.liveBytes += this.#heldBytes;
  }

  /** Runs on the calling thread. `session` may stand in for the program's own. */
  runSync(feeds: readonly TypedArray[], session = this.#session): TypedArray[] {
    const flight = this.#prepare(feeds);
    let status: Status;
    try {
      status = this.#environment.ort.api.Run(...this.#runArguments(session));
    } catch (error) {
      this.#settle(flight);
      throw error;
    }
    return this.#finish(flight, status);
  }

  /** The same on a libuv thread. The caller sees to it that no other run of the backend is under way. */
  run(feeds: readonly TypedArray[], session = this.#session): Promise<TypedArray[]> {
    return new Promise((resolve, reject) => {
      const flight = this.#prepare(feeds);
      // koffi keeps `done` until the call returns, and `done` keeps all that native code works on:
      // the arrays of this flight, and through `this` the names, the pointers and the staging buffers.
      const done = (error: Error | null, status: Status) => {
        try {
          if (!error) return resolve(this.#finish(flight, status));
          this.#settle(flight);
          reject(error);
        } catch (failure) {
          reject(failure);
        }
      };
      try {
        this.#environment.ort.api.Run.async(...this.#runArguments(session), done);
      } catch (error) {
        done(error as Error, null);
      }
    });
  }

  #runArguments(session: Pointer): Parameters<OrtApi['Run']> {
    const inputs = this.#inputValues;
    const outputs = this.#outputValues;
    const [inputNames, outputNames] = [this.#inputNames.pointers, this.#outputNames.pointers];
    return [session, null, inputNames, inputs, inputs.length, outputNames, outputs.length, outputs];
  }

  /** Puts off `dispose` until the matching `leave`: called when a run is put into the queue. */
  enter(): void {
    this.#users++;
  }

  leave(): void {
    this.#users--;
    if (this.#isDisposed && this.#users === 0) this.#free();
  }

  /** Frees all native memory, once the runs that were accepted have ended. Idempotent. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#users === 0) this.#free();
  }

  /** Fills staging buffers and pointer arrays. Changes no slot's value, so that a failed run leaves no trace. */
  #prepare(feeds: readonly TypedArray[]): Flight {
    if (feeds.length !== this.#inputs.length) {
      throw new Error(`${this.#label}: got ${feeds.length} feeds for ${this.#inputs.length} inputs`);
    }
    const flight: Flight = { feeds, results: [], bytes: 0 };
    try {
      for (let i = 0; i < feeds.length; i++) this.#bindFeed(i, flight);
      this.#bindSlots();
      for (let i = 0; i < this.#outputs.length; i++) {
        if (!this.#outputs[i]!.staging) this.#bindResult(i, flight);
      }
    } catch (error) {
      this.#settle(flight);
      throw error;
    }
    return flight;
  }

  #bindFeed(i: number, flight: Flight): void {
    const { port, bytes, staging } = this.#inputs[i]!;
    const feed = flight.feeds[i]!;
    // Native code trusts this length.
    if (feed.byteLength !== bytes) {
      throw new Error(`${this.#label}: feed ${port.name} has ${feed.byteLength} bytes, not ${bytes}`);
    }
    if (staging) {
      staging.set(feed);
      return;
    }
    this.#inputValues[i] = this.#feedValues[i]!.of(this.#environment, port.dtype, port.shape, feed);
    this.#count(flight, bytes);
  }

  /** Looks up the current arrays of all slots: other programs may have swapped them since the last run. */
  #bindSlots(): void {
    for (const { slot, values, input, output, inPlace } of this.#slots) {
      if (input >= 0) this.#inputValues[input] = values.of(slot, slot.data);
      // An assigned slot is written where nothing reads it in this run, unless its binding says otherwise.
      if (output < 0) continue;
      if (inPlace) {
        this.#outputValues[output] = values.of(slot, slot.data);
      } else {
        slot.spare ??= allocate(slot.dtype, slot.data.length);
        this.#outputValues[output] = values.of(slot, slot.spare);
      }
    }
  }

  /** Large results are written by native code straight into the array that the caller gets. */
  #bindResult(i: number, flight: Flight): void {
    const { port, length, bytes } = this.#outputs[i]!;
    const result = allocate(port.dtype, length);
    this.#outputValues[i] = wrap(this.#environment, port.dtype, port.shape, result);
    flight.results[i] = result;
    this.#count(flight, bytes);
  }

  /** Turns the end of a run into results, or throws; swaps double-buffered slots only on success. */
  #finish(flight: Flight, status: Status): TypedArray[] {
    this.#settle(flight);
    const text = statusText(this.#environment.ort.api, status);
    if (text !== undefined) throw new Error(`${this.#label}: ${text}`);
    for (const { slot, output, inPlace } of this.#slots) {
      if (output < 0 || inPlace) continue;
      const written = slot.spare!;
      slot.spare = slot.data;
      slot.data = written;
    }
    const { results } = flight;
    for (let i = 0; i < this.#outputs.length; i++) {
      const { staging } = this.#outputs[i]!;
      if (staging) results[i] = staging.slice();
    }
    this.#counters.runs++;
    return results;
  }

  /** Lets go of the arrays of a run that ended, well or badly. */
  #settle(flight: Flight): void {
    const { api } = this.#environment.ort;
    // Before `#finish` fills in the small ones, `results` holds just those with an OrtValue of their own.
    flight.results.forEach((_, i) => {
      api.ReleaseValue(this.#outputValues[i]!);
    });
    this.#count(flight, -flight.bytes);
  }

  #count(flight: Flight, bytes: number): void {
    flight.bytes += bytes;
    this.#counters.liveBytes += bytes;
  }

  #wrapStaging(ports: readonly BoundPort[], values: BigUint64Array): void {
    for (const [i, { port, staging }] of ports.entries()) {
      if (!staging) continue;
      const value = wrap(this.#environment, port.dtype, port.shape, staging);
      this.#stagingValues.push(value);
      values[i] = value;
    }
  }

  /** The slots' values stay: they belong to the slots, which other programs may use. */
  #free(): void {
    const { api } = this.#environment.ort;
    for (const value of this.#stagingValues) api.ReleaseValue(value);
    for (const feedValue of this.#feedValues) feedValue.release(this.#environment);
    api.ReleaseSession(this.#session);
    this.#counters.executables--;
    this.#counters.liveBytes -= this.#heldBytes;
  }
}

function bindPort(port: Port): BoundPort {
  const length = sizeOf(port.shape);
  const bytes = length * dtypes[port.dtype].bytes;
  return { port, length, bytes, staging: bytes <= largestStaged ? allocate(port.dtype, length) : undefined };
}

/** Gives the slot its places behind the ports; the name lists grow by its names. */
function bindSlot(binding: SlotBinding, table: SlotTable, inputs: string[], outputs: string[]): BoundSlot {
  const { slot, input, output, inPlace } = binding;
  const place = (name: string | undefined, names: string[]) =>
    name === undefined ? -1 : names.push(name) - 1;
  const values = table.valuesOf(slot);
  return { slot, values, input: place(input, inputs), output: place(output, outputs), inPlace };
}

/** ONNX Runtime takes a name twice without complaint, and then fills just one of the two buffers. */
function checkDistinct(label: string, names: readonly string[]): void {
  if (new Set(names).size === names.length) return;
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  throw new Error(`${label}: ${twice} is bound twice`);
}
