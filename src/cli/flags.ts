/** Flags that commands share, and the shapes in which they are declared. */
import { text, wholeNumber } from './arguments.js';

/** `--name`, which says something. */
export const said = (brief: string) =>
  ({ kind: 'boolean', withNegated: false, brief, optional: true }) as const;

/** `--name TEXT`, which may be left out. */
export const optionalText = (brief: string) =>
  ({ kind: 'parsed', brief, optional: true, parse: text }) as const;

/** `--name NUMBER` with a default. */
export const number = (brief: string, initial: string, parse: (input: string) => number) =>
  ({ kind: 'parsed', brief, default: initial, parse }) as const;

/** `--name NUMBER`, which may be left out. */
export const optionalNumber = (brief: string, parse: (input: string) => number) =>
  ({ kind: 'parsed', brief, optional: true, parse }) as const;

/** The same for whole numbers of at least `least`. */
export const count = (brief: string, initial: string, least = 1) =>
  number(brief, initial, wholeNumber(least));
export const optionalCount = (brief: string, least = 1) => optionalNumber(brief, wholeNumber(least));

export const json = said('Print JSON and nothing else');

/** Where a server listens, and who may ask it. */
export const listening = (port: string) =>
  ({
    port: count('Port; 0 takes a free one', port, 0),
    host: {
      kind: 'parsed',
      brief: 'Address to listen at; 0.0.0.0 for all',
      default: '127.0.0.1',
      parse: text,
    },
    key: {
      kind: 'parsed',
      brief: 'Bearer key that clients need',
      optional: true,
      variadic: true,
      parse: text,
    },
  }) as const;

/** Values of `listening`. */
export interface Listening {
  port: number;
  host: string;
  key?: readonly string[];
}
