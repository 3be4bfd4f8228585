import type { Environment, Project } from './types.js';

/** Names such as `prod-eu` and `prod_2` count, `products` does not. */
const production = /^(?:prod|production|live)(?![a-z])/i;
const development = /^(?:dev|development)(?![a-z])/i;

/** Whether people use what the environment delivers. Hosts have no other sign of it than its key. */
export function isProduction({ key }: Pick<Environment, 'key'>): boolean {
  return production.test(key);
}

const stageOf = (environment: Environment): number =>
  isProduction(environment) ? 2 : development.test(environment.key) ? 0 : 1;

/** The projects with their environments in the order of a release: development first, production last, others as the host has them. */
export function inReleaseOrder(projects: readonly Project[]): readonly Project[] {
  return projects.map((project) => ({
    ...project,
    environments: project.environments.toSorted((one, other) => stageOf(one) - stageOf(other)),
  }));
}
