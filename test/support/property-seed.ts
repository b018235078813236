import fc from 'fast-check';

// Property tests draw the same cases in every run: a failure is one of the change, and repeats.
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: 20251125 });
