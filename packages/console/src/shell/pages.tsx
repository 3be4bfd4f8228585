import { approvals } from '@flagcast/client/approvals';
import { Button } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { lazy, useEffect, useMemo, useState } from 'react';
import { Link, Navigate, Outlet, Route, Routes, useLocation, useParams } from 'react-router';
import { ChannelPage, LiveChannelProvider, useLive } from '../api/live.js';
import { meKey, projectsKey, requestKey, useMe, useProjects, useRequestDetail } from '../api/queries.js';
import type { OpenChange, Project } from '../api/types.js';
import { OpenChangesProvider } from '../approvals/open-changes.js';
import { ConcernsProvider } from '../approvals/use-concerns.js';
import { FeaturesPage } from '../features/features-page.js';
import type { Messages } from '../i18n/en.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { useAppServices, useSession } from '../sign-in/app-services.js';
import { Announcer } from './announcer.js';
import { FullPage, LazyPage, PageLoader } from './full-page.js';
import { Keyboard } from './keyboard.js';
import { describeError } from '../api/api.js';
import { lazyRoutes } from './lazy-routes.js';
import { ScopeContext, scopePath } from './scope.js';
import { ShellFrame } from './shell-frame.js';
import { useCurrentEnvironment } from './use-current-environment.js';

const FeaturePage = lazy(lazyRoutes.featurePage);
const ApprovalsPage = lazy(lazyRoutes.approvalsPage);
const RequestPage = lazy(lazyRoutes.requestPage);
const ActivityPage = lazy(lazyRoutes.activityPage);
const GuardsPage = lazy(lazyRoutes.guardsPage);

export function Pages() {
  useFollowedRights();
  return (
    <Routes>
      <Route path="/p/:projectId/:env" element={<ScopeLayout />}>
        <Route index element={<Navigate to="features" replace />} />
        <Route path="features" element={<FeaturesPage />} />
        <Route path="features/:featureId" element={<FeaturePage />} />
        <Route path="approvals" element={<ApprovalsPage />} />
        <Route path="approvals/:requestId" element={<RequestPage />} />
        <Route path="activity" element={<ActivityPage />} />
        <Route path="guards" element={<GuardsPage />} />
        <Route path="*" element={<NotFound />} />
      </Route>
      <Route path="/approvals" element={<RedirectToScope page="approvals" />} />
      <Route path="/approvals/:requestId" element={<RedirectToRequest />} />
      <Route path="/" element={<RedirectToScope page="features" />} />
      <Route path="*" element={<NotFound />} />
    </Routes>
  );
}

/** Loads the projects and the rights again when they change, also on a page that the user may not view (any more). */
function useFollowedRights(): void {
  const { client } = useLive();
  const queries = useQueryClient();
  useEffect(() => {
    const stop = client.onMessage((message) => {
      if (!('feed' in message) || !('reason' in message) || message.reason !== 'scope_changed') return;
      for (const queryKey of [projectsKey, meKey, requestKey]) void queries.invalidateQueries({ queryKey });
    });
    // Only the pages of an environment show it.
    const feed = approvals(client);
    return () => {
      feed.close();
      stop();
    };
  }, [client, queries]);
}

interface RedirectProps {
  readonly page: string;
  /** Its environment is chosen, if the user may view it. */
  readonly request?: OpenChange | undefined;
}

/** Redirects to the page in an environment, by default the first one that the user may view. */
function RedirectToScope({ page, request }: RedirectProps) {
  const { t } = useI18n();
  const { search } = useLocation();
  const { data, error } = useProjects();
  if (error !== null) return <ErrorPage text={describeError(error, t)} />;
  if (data === undefined) return <PageLoader />;
  const project = data.find(({ id }) => id === request?.project_id) ?? data[0];
  const env =
    project?.environments.find(({ id }) => id === request?.environment_id) ?? project?.environments[0];
  if (project === undefined || env === undefined)
    return <ErrorPage title={t.shell.noProjects} text={t.shell.noProjectsHint} />;
  return <Navigate to={scopePath(project.id, env.key, page) + search} replace />;
}

function RedirectToRequest() {
  const { requestId = '' } = useParams();
  const { data, isPending } = useRequestDetail(requestId);
  if (isPending) return <PageLoader />;
  return <RedirectToScope page={`approvals/${encodeURIComponent(requestId)}`} request={data} />;
}

function ScopeLayout() {
  const { t } = useI18n();
  const { projectId = '', env = '' } = useParams();
  const { pathname } = useLocation();
  const { data: projects, error: projectsError } = useProjects();
  const { data: me, error: meError } = useMe();
  const queries = useQueryClient();
  const { project, environment } = useCurrentEnvironment(projects, projectId, env);
  const [gone, setGone] = useState<{ readonly path: string; readonly reason: GoneReason } | null>(null);
  const path = scopePath(projectId, env, '');
  const onEnd = (code: string): void => {
    const reason = goneReasons[code];
    if (reason === undefined) return;
    setGone(reason === null ? null : { path, reason });
    // Without any environment, a project cannot be opened.
    queries.setQueryData<readonly Project[]>(projectsKey, (known) =>
      known?.map((each) => ({
        ...each,
        environments: each.environments.filter(({ id }) => id !== environment?.id),
      })),
    );
    void queries.invalidateQueries({ queryKey: projectsKey });
  };
  const scope = useMemo(
    () =>
      projects === undefined || me === undefined || project === undefined || environment === undefined
        ? null
        : { projects, me, project, environment },
    [projects, me, project, environment],
  );
  const error = projects === undefined ? projectsError : me === undefined ? meError : null;
  if (error !== null) return <ErrorPage text={describeError(error, t)} />;
  if (projects === undefined || me === undefined) return <PageLoader />;
  if (scope === null) return <NotFound {...(gone?.path === path && { gone: gone.reason })} />;
  return (
    <ScopeContext value={scope}>
      {/* Outside the channel: the requests are those of all environments, so a switch keeps their feed. */}
      <OpenChangesProvider>
        <ConcernsProvider>
          <LiveChannelProvider
            projectId={projectId}
            environmentId={scope.environment.id}
            env={scope.environment.key}
            onEnd={onEnd}
          >
            <Keyboard>
              <ShellFrame>
                <LazyPage resetKey={pathname}>
                  <ChannelPage>
                    <Outlet />
                  </ChannelPage>
                </LazyPage>
              </ShellFrame>
              <Announcer />
            </Keyboard>
          </LiveChannelProvider>
        </ConcernsProvider>
      </OpenChangesProvider>
    </ScopeContext>
  );
}

interface ErrorPageProps {
  /** Default: that something went wrong. */
  readonly title?: string;
  readonly text: string;
}

/** Shown when the data of the page could not be loaded. */
function ErrorPage({ title, text }: ErrorPageProps) {
  const { t } = useI18n();
  const queries = useQueryClient();
  return (
    <FullPage title={title ?? t.shell.errorTitle} text={text}>
      <Button onClick={() => void queries.refetchQueries({ type: 'active' })}>{t.shell.tryAgain}</Button>
      <SwitchUser />
    </FullPage>
  );
}

/** On a page without the menu of the user: another user may be able to view this address. */
function SwitchUser() {
  const { t } = useI18n();
  const { session } = useAppServices();
  const current = useSession();
  return (
    <Button variant="subtle" color="gray" onClick={session.switchUser}>
      {current.state !== 'out' && `${t.shell.userMenu(visible(current.username))} · `}
      {t.shell.switchUser}
    </Button>
  );
}

interface NotFoundProps {
  /** What has happened to the environment while its page was open. Default: it is not known. */
  readonly gone?: GoneReason;
}

function NotFound({ gone }: NotFoundProps) {
  const { t } = useI18n();
  const [title, text] =
    gone === undefined ? [t.shell.notFound, t.shell.notFoundHint] : [t.shell.gone[gone], t.shell.goneHint];
  return (
    <FullPage title={title} text={text}>
      <Button component={Link} to="/">
        {t.shell.goToFlags}
      </Button>
      <SwitchUser />
    </FullPage>
  );
}

type GoneReason = keyof Messages['shell']['gone'];

/** Reasons by the error code that ends a channel. */
const goneReasons: Readonly<Record<string, GoneReason | null | undefined>> = {
  environment_deleted: 'environment_deleted',
  project_archived: 'project_archived',
  project_deleted: 'project_deleted',
  // Nothing is known but that the user cannot view it (any more).
  unknown_environment: null,
  unknown_project: null,
  forbidden: null,
};
