import { Button, Center, Loader, Stack, Text, Title } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { lazy, type ReactNode, Suspense, useMemo, useState } from 'react';
import { Link, Navigate, Outlet, Route, Routes, useLocation, useParams } from 'react-router';
import { LiveChannelProvider } from '../api/live.js';
import { projectsKey, useMe, useProjects } from '../api/queries.js';
import type { Project } from '../api/types.js';
import { OpenChangesProvider } from '../approvals/open-changes.js';
import { FeaturesPage } from '../features/features-page.js';
import type { Texts } from '../texts/en.js';
import { useTexts } from '../texts/texts.js';
import { Announcer } from './announcer.js';
import { FaultBoundary } from './fault-boundary.js';
import { Keyboard } from './keyboard.js';
import { describeError } from './messages.js';
import { parts } from './parts.js';
import { PlaceContext, placePath } from './place.js';
import { ShellFrame } from './shell-frame.js';
import { useCurrentEnvironment } from './use-current-environment.js';

const FeaturePage = lazy(parts.featurePage);
const ApprovalsPage = lazy(parts.approvalsPage);
const ActivityPage = lazy(parts.activityPage);
const GuardsPage = lazy(parts.guardsPage);

export function Pages() {
  return (
    <Routes>
      <Route path="/p/:projectId/:env" element={<PlaceFrame />}>
        <Route index element={<Navigate to="features" replace />} />
        <Route path="features" element={<FeaturesPage />} />
        <Route path="features/:featureId" element={<FeaturePage />} />
        <Route path="approvals" element={<ApprovalsPage />} />
        <Route path="activity" element={<ActivityPage />} />
        <Route path="guards" element={<GuardsPage />} />
        <Route path="*" element={<NotHere />} />
      </Route>
      <Route path="/approvals" element={<FirstPlace page="approvals" />} />
      <Route path="*" element={<FirstPlace page="features" />} />
    </Routes>
  );
}

/** Leads to a page of the first environment that the person may see. */
function FirstPlace({ page }: { readonly page: string }) {
  const { t } = useTexts();
  const { data, error } = useProjects();
  if (error !== null) return <Problem text={describeError(error, t)} />;
  if (data === undefined) return <Waiting />;
  const project = data[0];
  const env = project?.environments[0];
  if (project === undefined || env === undefined) return <Problem text={t.shell.noProjects} />;
  return <Navigate to={placePath(project.id, env.key, page)} replace />;
}

function PlaceFrame() {
  const { t } = useTexts();
  const { projectId = '', env = '' } = useParams();
  const { pathname } = useLocation();
  const { data: projects, error: projectsError } = useProjects();
  const { data: me, error: meError } = useMe();
  const queries = useQueryClient();
  const { project, environment } = useCurrentEnvironment(projects, projectId, env);
  const [gone, setGone] = useState<{
    readonly path: string;
    readonly id: string | undefined;
    readonly reason: GoneReason;
  } | null>(null);
  const path = placePath(projectId, env, '');
  const onEnd = (code: string): void => {
    const reason = goneReasons[code];
    if (reason === undefined) return;
    setGone({ path, id: environment?.id, reason });
    queries.setQueryData<readonly Project[]>(projectsKey, (known) =>
      without(known, projectId, environment?.id, reason),
    );
    void queries.invalidateQueries({ queryKey: projectsKey });
  };
  const place = useMemo(
    () =>
      projects === undefined || me === undefined || project === undefined || environment === undefined
        ? null
        : { projects, me, project, environment },
    [projects, me, project, environment],
  );
  const error = projects === undefined ? projectsError : me === undefined ? meError : null;
  if (error !== null) return <Problem text={describeError(error, t)} />;
  if (projects === undefined || me === undefined) return <Waiting />;
  if (gone?.path === path && (environment === undefined || environment.id === gone.id))
    return <Gone reason={gone.reason} />;
  if (place === null) return <NotHere />;
  return (
    <PlaceContext value={place}>
      <LiveChannelProvider
        projectId={projectId}
        environmentId={place.environment.id}
        env={place.environment.key}
        onEnd={onEnd}
      >
        <OpenChangesProvider>
          <Keyboard>
            <ShellFrame>
              <FaultBoundary place={pathname} fallback={<Problem text={t.shell.fault} />}>
                <Suspense fallback={<Waiting />}>
                  <Outlet />
                </Suspense>
              </FaultBoundary>
            </ShellFrame>
            <Announcer />
          </Keyboard>
        </OpenChangesProvider>
      </LiveChannelProvider>
    </PlaceContext>
  );
}

function Waiting() {
  const { t } = useTexts();
  return (
    <Center mih={240}>
      <Loader aria-label={t.shell.loading} role="status" />
    </Center>
  );
}

function Problem({ text }: { readonly text: string }) {
  const { t } = useTexts();
  return (
    <Whole title={t.shell.problem} text={text}>
      <Button onClick={() => location.reload()}>{t.shell.tryAgain}</Button>
    </Whole>
  );
}

function NotHere() {
  const { t } = useTexts();
  return (
    <Whole title={t.shell.notHere} text={t.shell.notHereWhy}>
      <Button component={Link} to="/">
        {t.shell.home}
      </Button>
    </Whole>
  );
}

type GoneReason = keyof Texts['shell']['gone'];

/** Why there is nothing left to show, by the code that a channel ends with. */
const goneReasons: Readonly<Record<string, GoneReason | undefined>> = {
  environment_deleted: 'environment_deleted',
  unknown_environment: 'environment_deleted',
  project_archived: 'project_archived',
  project_deleted: 'project_deleted',
  unknown_project: 'project_deleted',
};

function without(
  projects: readonly Project[] | undefined,
  projectId: string,
  environmentId: string | undefined,
  reason: GoneReason,
): readonly Project[] | undefined {
  if (reason !== 'environment_deleted') return projects?.filter(({ id }) => id !== projectId);
  return projects?.map((project) => ({
    ...project,
    environments: project.environments.filter(({ id }) => id !== environmentId),
  }));
}

/** The environment was deleted, or its project is no longer there, while the page showed it. */
function Gone({ reason }: { readonly reason: GoneReason }) {
  const { t } = useTexts();
  return (
    <Whole title={t.shell.gone[reason]} text={t.shell.goneWhy}>
      <Button component={Link} to="/">
        {t.shell.goToFlags}
      </Button>
    </Whole>
  );
}

interface WholeProps {
  readonly title: string;
  readonly text: string;
  readonly children: ReactNode;
}

function Whole({ title, text, children }: WholeProps) {
  return (
    <Center component="main" mih="60dvh" p="lg">
      <Stack align="center" maw={460} ta="center">
        <Title order={1}>{title}</Title>
        <Text c="dimmed">{text}</Text>
        {children}
      </Stack>
    </Center>
  );
}
