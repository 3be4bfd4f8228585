/** A flag of the demo's company, before the demo fills it with life. */
export interface FlagIdea {
  readonly key: string;
  readonly name: string;
  readonly description: string;
  /** How far it has come: switched on in dev only, in dev and stage, everywhere, or nowhere. */
  readonly rollout: 'off' | 'dev' | 'stage' | 'prod';
  /** The values to choose from, the usual one first; none for a flag that is only on or off. */
  readonly values: readonly string[];
}
