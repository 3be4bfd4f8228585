import type { FeatureState } from '@flagcast/client';
import { createSafeContext } from '@mantine/core';
import type { Environment, Me, Project } from '../api/types.js';

/** The project and environment of the page. */
export interface Scope {
  readonly project: Project;
  readonly environment: Environment;
  readonly projects: readonly Project[];
  readonly me: Me;
}

export const [ScopeContext, useScope] = createSafeContext<Scope>('useScope needs a ScopeContext');

/** The path of a page, e.g. `scopePath(projectId, 'prod', 'features')`. */
export function scopePath(projectId: string, env: string, page: string): string {
  return `/p/${encodeURIComponent(projectId)}/${encodeURIComponent(env)}/${page}`;
}

/** The environment of a project with this key, else its first one; undefined if it has none. */
export function environmentIn({ environments }: Project, key: string): Environment | undefined {
  return environments.find((each) => each.key === key) ?? environments[0];
}

/** Whether the user has a permission in a project. */
function hasPermission(me: Me, projectId: string, permission: string): boolean {
  if (me.user.is_superuser) return true;
  return me.projects.find(({ id }) => id === projectId)?.permissions.includes(permission) ?? false;
}

/** Whether changes of the flag need an approval: all in a guarded environment, or all of a flag with Togglr's tag. */
export function isGuarded(feature: FeatureState, environment: Environment): boolean {
  return environment.guarded || feature.tags?.some(({ slug }) => slug === 'guarded') === true;
}

/** The permissions of the user in this project, on this server. */
export function useRights() {
  const { me, project } = useScope();
  const manage = me.writes && hasPermission(me, project.id, 'feature.manage');
  return {
    toggle: manage || (me.writes && hasPermission(me, project.id, 'feature.toggle')),
    manage,
    /** To add and remove guards of environments. */
    guard: me.writes && hasPermission(me, project.id, 'project.manage'),
  };
}
