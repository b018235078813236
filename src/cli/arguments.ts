/** Parsers of flags; what they throw completes the sentence `--flag must be …`. */

const expected = (what: string, input: string) => new RangeError(`must be ${what}, not "${input}"`);

/** A whole number of at least `minimum`. */
export const wholeNumber = (minimum: number) => (input: string) => {
  const value = Number(input);
  if (input.trim() === '' || !Number.isSafeInteger(value) || value < minimum) {
    throw expected(`a whole number ≥ ${minimum}`, input);
  }
  return value;
};

/** A finite number between two bounds, both included. */
export const numberBetween = (minimum: number, maximum: number) => (input: string) => {
  const value = Number(input);
  if (input.trim() === '' || !(value >= minimum && value <= maximum) || !Number.isFinite(value)) {
    const bound = Number.isFinite(maximum) ? `from ${minimum} to ${maximum}` : `≥ ${minimum}`;
    throw expected(`a number ${bound}`, input);
  }
  return value;
};

/** Text that is not empty. */
export const text = (input: string) => {
  if (input === '') throw expected('given', input);
  return input;
};
