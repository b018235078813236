import { stagedExperiment, updatesExperiment } from './rl-acereason.js';
import type { RlExperiment } from './rl-cells.js';
import { domainsExperiment } from './rl-domains.js';
import { balanceExperiment, misleadingExperiment } from './rl-flawed.js';
import { riseExperiment } from './rl-rise.js';
import type { ExperimentName } from './rl-settings.js';
import { verifierExperiment } from './rl-tango.js';
import { tangoExperiment } from './rl-words.js';

/** All experiments by name. */
export const rlExperiments: Readonly<Record<ExperimentName, RlExperiment>> = {
  tango: tangoExperiment,
  verifier: verifierExperiment,
  balance: balanceExperiment,
  rise: riseExperiment,
  updates: updatesExperiment,
  staged: stagedExperiment,
  domains: domainsExperiment,
  misleading: misleadingExperiment,
};
