import { Button, Center, Loader, Stack, Text, Title } from '@mantine/core';
import { lazy, type ReactNode, Suspense, useMemo } from 'react';
import { Link, Navigate, Outlet, Route, Routes, useLocation, useParams } from 'react-router';
import { LiveChannelProvider } from '../api/live.js';
import { useMe, useProjects } from '../api/queries.js';
import { OpenChangesProvider } from '../approvals/open-changes.js';
import { FeaturesPage } from '../features/features-page.js';
import { useTexts } from '../texts/texts.js';
import { Announcer } from './announcer.js';
import { FaultBoundary } from './fault-boundary.js';
import { Keyboard } from './keyboard.js';
import { describeError } from './messages.js';
import { parts } from './parts.js';
import { PlaceContext, placePath } from './place.js';
import { ShellFrame } from './shell-frame.js';

const FeaturePage = lazy(parts.featurePage);
const ApprovalsPage = lazy(parts.approvalsPage);
const ActivityPage = lazy(parts.activityPage);

export function Pages() {
  return (
    <Routes>
      <Route path="/p/:projectId/:env" element={<PlaceFrame />}>
        <Route index element={<Navigate to="features" replace />} />
        <Route path="features" element={<FeaturesPage />} />
        <Route path="features/:featureId" element={<FeaturePage />} />
        <Route path="approvals" element={<ApprovalsPage />} />
        <Route path="activity" element={<ActivityPage />} />
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
  const project = projects?.find(({ id }) => id === projectId);
  const environment = project?.environments.find(({ key }) => key === env);
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
  if (place === null) return <NotHere />;
  return (
    <PlaceContext value={place}>
      <LiveChannelProvider projectId={projectId} env={env}>
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
