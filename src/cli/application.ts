import { readFileSync } from 'node:fs';
import {
  type ArgumentParseError,
  type ArgumentScannerError,
  buildApplication,
  buildRouteMap,
  formatMessageForArgumentScannerError,
  text_en,
} from '@stricli/core';
import { AnnealError } from '../core/errors.js';
import { routes } from './routes.js';
import { exitCodes } from './terminal.js';

/** A mistake of the user as against a defect. */
const isUserError = (error: unknown): error is AnnealError => error instanceof AnnealError;

const messageOf = (error: unknown): string => {
  if (isUserError(error)) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
};

const lowerFirst = (sentence: string) => sentence.charAt(0).toLowerCase() + sentence.slice(1);

/** One sentence for a flag or an argument that cannot be read. */
function scannerMessage(error: ArgumentScannerError): string {
  return formatMessageForArgumentScannerError(error, {
    ArgumentParseError: ({ externalFlagNameOrPlaceholder: name, exception, input }: ArgumentParseError) =>
      exception instanceof RangeError
        ? `--${name} ${exception.message}`
        : `--${name} cannot be "${input}": ${lowerFirst((exception as Error).message)}`,
    EnumValidationError: ({ externalFlagName, values, input }) =>
      `--${externalFlagName} must be one of ${values.join(', ')}, not "${input}"`,
    FlagNotFoundError: ({ input, corrections }) =>
      `there is no flag --${input}${corrections.length > 0 ? `; did you mean ${corrections.map((c) => `--${c}`).join(' or ')}?` : '; --help lists the flags'}`,
    AliasNotFoundError: ({ input }) => `there is no flag -${input}; --help lists the flags`,
    UnsatisfiedPositionalError: ({ placeholder, limit }) =>
      `${placeholder.toUpperCase()} is missing${limit && limit[0] > 1 ? ` (${limit[0]} are needed)` : ''}; --help shows the usage`,
    UnexpectedPositionalError: ({ input }) => `"${input}" is one argument too many; --help shows the usage`,
    UnsatisfiedFlagError: ({ externalFlagName }) => `--${externalFlagName} needs a value`,
    UnexpectedFlagError: ({ externalFlagName, previousInput, input }) =>
      `--${externalFlagName} is given twice, "${previousInput}" and "${input}"`,
  });
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** The whole command line as a Stricli application. */
export const application = buildApplication(
  buildRouteMap({
    routes,
    docs: {
      brief: 'Train, post-train, evaluate and serve models from TypeScript, at native speed',
      fullDescription: [
        'Train, post-train, evaluate and serve models from TypeScript, at native speed.',
        '',
        'MODEL is a run directory, a model directory (config.json, model.safetensors, tokenizer.json) or a .gguf file.',
        'With --json, standard output holds JSON and nothing else.',
        'Exit codes: 0 done, 2 a mistake in the command or its data, 1 a defect, 130 after Ctrl-C.',
      ].join('\n'),
    },
  }),
  {
    name: 'anneal',
    versionInfo: { currentVersion: version },
    scanner: { caseStyle: 'allow-kebab-for-camel', allowArgumentEscapeSequence: true },
    documentation: { disableAnsiColor: true, onlyRequiredInUsageLine: true },
    determineExitCode: (error) => (isUserError(error) ? exitCodes.user : exitCodes.defect),
    localization: {
      text: {
        ...text_en,
        noCommandRegisteredForInput: ({ input, corrections }) =>
          `there is no command "${input}"; ${corrections.length > 0 ? `did you mean ${corrections.join(' or ').replaceAll('`', '')}?` : '`anneal --help` lists the commands'}`,
        exceptionWhileParsingArguments: (error) => scannerMessage(error as ArgumentScannerError),
        exceptionWhileRunningCommand: messageOf,
        exceptionWhileLoadingCommandFunction: messageOf,
        commandErrorResult: messageOf,
      },
    },
  },
);
