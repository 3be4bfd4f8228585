import { createContext, use } from 'react';
import type { Environment, Me, Project } from '../api/types.js';

/** Where the page is: one environment of one project, and what may be done there. */
export interface Scope {
  readonly project: Project;
  readonly environment: Environment;
  readonly projects: readonly Project[];
  readonly me: Me;
}

export const ScopeContext = createContext<Scope | null>(null);

export function useScope(): Scope {
  const place = use(ScopeContext);
  if (place === null) throw new Error('ScopeContext has no value');
  return place;
}

/** A page's address, e.g. `scopePath(projectId, 'prod', 'features')`. */
export function scopePath(projectId: string, env: string, page: string): string {
  return `/p/${encodeURIComponent(projectId)}/${encodeURIComponent(env)}/${page}`;
}

/** Whether somebody has a right in a project. */
function may(me: Me, projectId: string, permission: string): boolean {
  if (me.user.is_superuser) return true;
  return me.projects.find(({ id }) => id === projectId)?.permissions.includes(permission) ?? false;
}

export interface Rights {
  readonly toggle: boolean;
  readonly manage: boolean;
  /** Whether the person may guard environments. */
  readonly guard: boolean;
}

/** What may be written in this project, by this person, on this server. */
export function useRights(): Rights {
  const { me, project } = useScope();
  const manage = me.writes && may(me, project.id, 'feature.manage');
  return {
    toggle: manage || (me.writes && may(me, project.id, 'feature.toggle')),
    manage,
    guard: me.writes && may(me, project.id, 'project.manage'),
  };
}
