/** What our side of a comparison is to the process that runs it: see child.ts. */
import type { Answer, Request } from '../protocol.js';

/** A thing that has been set up and answers requests. */
export interface Side {
  /** Name, with whatever a reader has to know. */
  about: string;
  /** Answers by the `op` of the request. */
  operations: Readonly<Record<string, (request: Request) => Promise<Answer>>>;
}

/** What a module of this folder exports as `open`; the job is a file or folder that the suite wrote. */
export type OpenSide = (job: string) => Promise<Side>;
