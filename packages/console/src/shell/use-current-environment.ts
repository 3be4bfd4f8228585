import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { useLocation, useNavigate } from 'react-router';
import { useLive } from '../api/live.js';
import { projectsKey } from '../api/queries.js';
import type { Project } from '../api/types.js';
import { scopePath } from './scope.js';

/** The environment that the page shows. Its id identifies it, even if its key changes. */
interface Shown {
  readonly projectId: string;
  readonly keys: readonly string[];
  /** The environment's id. */
  readonly id: string;
}

/**
 * The project and environment of the address; undefined if they do not exist. If the key of the environment changes, the
 * page stays and its address changes.
 */
export function useCurrentEnvironment(
  projects: readonly Project[] | undefined,
  projectId: string,
  env: string,
) {
  useEnvironmentChanges();
  const navigate = useNavigate();
  const { pathname, search } = useLocation();
  const [shown, setShown] = useState<Shown | null>(null);
  const isShown = shown?.projectId === projectId && shown.keys.includes(env);
  /** The ids by all addresses of this visit: Back can lead to one with a former key. */
  const [idsByAddress] = useState(() => new Map<string, string>());
  const address = scopePath(projectId, env, '');
  const project = projects?.find(({ id }) => id === projectId);
  const environment =
    project?.environments.find(({ id }) => isShown && id === shown.id) ??
    project?.environments.find(({ key }) => key === env) ??
    project?.environments.find(({ id }) => id === idsByAddress.get(address));
  const { id, key } = environment ?? {};
  const hasArrived = key === env && isShown && shown.keys.length > 1;
  if (id !== undefined && (!isShown || id !== shown.id || hasArrived))
    setShown({ projectId, keys: [env], id });
  useEffect(() => {
    if (id !== undefined) idsByAddress.set(address, id);
  }, [idsByAddress, address, id]);
  useEffect(() => {
    if (id === undefined || key === undefined || key === env) return;
    // Until the address has changed, both keys belong to this environment.
    setShown({ projectId, keys: [env, key], id });
    const rest = pathname.slice(scopePath(projectId, env, '').length);
    void navigate(`${scopePath(projectId, key, rest)}${search}`, { replace: true });
  }, [id, key, env, projectId, pathname, search, navigate]);
  return { project, environment };
}

/** Updates the keys and guards of environments from the messages of the server. */
function useEnvironmentChanges(): void {
  const { client } = useLive();
  const queries = useQueryClient();
  useEffect(
    () =>
      client.onMessage((message) => {
        if (!('environment' in message)) return;
        if ('source' in message) {
          if (message.entity === 'environment') void queries.invalidateQueries({ queryKey: projectsKey });
          return;
        }
        const { environment_id: environmentId, environment: key } = message;
        const projects = queries.getQueryData<readonly Project[]>(projectsKey);
        const known = projects
          ?.find(({ id }) => id === message.project_id)
          ?.environments.find(({ id }) => id === environmentId);
        if (known === undefined || known.key === key) return;
        queries.setQueryData<readonly Project[]>(projectsKey, (before) =>
          before?.map((project) => ({
            ...project,
            environments: project.environments.map((each) => (each === known ? { ...each, key } : each)),
          })),
        );
        void queries.invalidateQueries({ queryKey: projectsKey });
      }),
    [client, queries],
  );
}
