import { AppShell, Badge, Group, NavLink, Text, UnstyledButton } from '@mantine/core';
import { type ReactNode, useEffect, useRef } from 'react';
import { Link, useLocation } from 'react-router';
import { isProduction } from '../api/environments.js';
import { Bell } from '../approvals/bell.js';
import { FreshnessChip } from '../freshness/freshness-chip.js';
import { StaleBanner } from '../freshness/stale-banner.js';
import { useI18n } from '../i18n/i18n.js';
import { Mark, SearchIcon } from './icons.js';
import { useShortcuts } from './keyboard.js';
import { paletteKeys } from './shortcuts.js';
import { UserMenu } from './user-menu.js';
import { ScopeSwitch } from './scope-switch.js';
import { scopePath, useScope } from './scope.js';
import { usePages } from './use-pages.js';
import { usePreload } from './use-preload.js';

/** The frame of every page: header, navigation (on phones a bar at the bottom), freshness. */
export function ShellFrame({ children }: { readonly children: ReactNode }) {
  const { t } = useI18n();
  const { project, environment, me } = useScope();
  const { openPalette } = useShortcuts();
  const content = useFocusOnNavigation();
  usePreload();
  return (
    <AppShell
      header={{ height: 56 }}
      navbar={{ width: 216, breakpoint: 'sm', collapsed: { mobile: true } }}
      padding={0}
    >
      <a
        className="fc-skip"
        href="#content"
        onClick={(event) => {
          // Not as a navigation: the router does not number its entry of the history.
          event.preventDefault();
          content.current?.focus();
        }}
      >
        {t.shell.skipToContent}
      </a>
      <AppShell.Header className="fc-header" data-production={isProduction(environment) || undefined}>
        <UnstyledButton
          component={Link}
          to={scopePath(project.id, environment.key, 'features')}
          aria-label={t.shell.home}
          className="fc-brand"
        >
          <Mark size={28} />
          <Text fw={600} size="lg" visibleFrom="sm" component="span">
            Flagcast
          </Text>
        </UnstyledButton>
        <ScopeSwitch />
        <Group gap="xs" wrap="nowrap" ml="auto">
          {!me.writes && (
            <Badge variant="light" color="gray" tt="none" size="lg" visibleFrom="md">
              {t.shell.writesOff}
            </Badge>
          )}
          <UnstyledButton
            className="fc-bell"
            visibleFrom="sm"
            aria-label={t.keyboard.palette}
            title={`${t.keyboard.palette} (${paletteKeys.join('+')})`}
            onClick={openPalette}
          >
            <SearchIcon />
          </UnstyledButton>
          <FreshnessChip />
          <Bell />
          <UserMenu />
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="sm" visibleFrom="sm" className="fc-nav" aria-label={t.shell.navigation}>
        <Navigation />
      </AppShell.Navbar>
      <AppShell.Main id="content" ref={content} tabIndex={-1} className="fc-main">
        <StaleBanner />
        <div className="fc-page">{children}</div>
      </AppShell.Main>
      <BottomBar />
    </AppShell>
  );
}

/** Focuses the content after a navigation, so that screen readers start at its top. */
function useFocusOnNavigation() {
  const { pathname } = useLocation();
  const content = useRef<HTMLElement>(null);
  const lastPath = useRef(pathname);
  useEffect(() => {
    if (lastPath.current === pathname) return;
    lastPath.current = pathname;
    // Arrow keys choose another environment from there.
    if (document.activeElement?.closest('.fc-scope')) return;
    content.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [pathname]);
  return content;
}

function Navigation() {
  const { t } = useI18n();
  return usePages().map(({ to, label, icon, count, active }) => (
    <NavLink
      key={to}
      component={Link}
      to={to}
      label={label}
      leftSection={icon}
      active={active}
      aria-current={active ? 'page' : undefined}
      className="fc-nav-link"
      rightSection={
        count > 0 && (
          <Badge size="sm" circle={count < 10} aria-label={t.approvals.countLabel(count)} role="img">
            {count}
          </Badge>
        )
      }
    />
  ));
}

function BottomBar() {
  const { t } = useI18n();
  const pages = usePages();
  return (
    <nav className="fc-bottom-bar" aria-label={t.shell.navigation}>
      {pages.map(({ to, label, icon, count, active }) => (
        <Link key={to} to={to} aria-current={active ? 'page' : undefined}>
          <span className="fc-bottom-icon">
            {icon}
            {count > 0 && (
              <Badge size="xs" circle={count < 10} aria-label={t.approvals.countLabel(count)} role="img">
                {count}
              </Badge>
            )}
          </span>
          {label}
        </Link>
      ))}
    </nav>
  );
}
