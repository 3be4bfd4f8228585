import { Avatar, Badge, Group, Text, UnstyledButton } from '@mantine/core';
import { memo, type ReactNode, useEffect, useRef } from 'react';
import { Link, useLocation } from 'react-router';
import { isProduction } from '../api/environments.js';
import { Bell } from '../approvals/bell.js';
import { FreshnessChip } from '../freshness/freshness-chip.js';
import { StaleBanner } from '../freshness/stale-banner.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { Mark, SearchIcon } from './icons.js';
import { useShortcuts } from './keyboard.js';
import { lazyPart } from './lazy-part.js';
import { lazyRoutes } from './lazy-routes.js';
import { PopupButton } from './popup-button.js';
import { paletteKeys } from './shortcuts.js';
import { ScopeSwitch } from './scope-switch.js';
import { scopePath, useScope } from './scope.js';
import { usePages } from './use-pages.js';
import { usePreload } from './use-preload.js';

const UserMenu = lazyPart(lazyRoutes.userMenu);

/** The frame of every page: header, navigation (on phones a bar at the bottom), freshness. */
export function ShellFrame({ children }: { readonly children: ReactNode }) {
  const { t } = useI18n();
  const { project, environment, me } = useScope();
  const { openPalette } = useShortcuts();
  const content = useFocusOnNavigation();
  usePreload();
  return (
    <>
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
      <header className="fc-header" data-production={isProduction(environment) || undefined}>
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
          <UserButton />
        </Group>
      </header>
      <Navigation />
      <main id="content" ref={content} tabIndex={-1} className="fc-main">
        <StaleBanner />
        <div className="fc-page">{children}</div>
      </main>
    </>
  );
}

function UserButton() {
  const { t } = useI18n();
  const { user } = useScope().me;
  const label = t.shell.userMenu(user.username);
  return (
    <PopupButton popup="dialog" render={(close) => <UserMenu label={label} onClose={close} />}>
      {(button) => (
        <UnstyledButton bdrs="50%" aria-label={label} {...button}>
          <Avatar name={visible(user.username)} color="initials" size={34} aria-hidden="true">
            {/* Drawn by CSS, so that the initials are not part of the button's name. */}
            <span className="fc-initials" data-initials={visible(user.username).slice(0, 2)} />
          </Avatar>
        </UnstyledButton>
      )}
    </PopupButton>
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
    // Arrow keys choose another environment from there. A dialog can be opened before the page has loaded.
    if (document.activeElement?.closest('.fc-scope, [role="dialog"]')) return;
    content.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [pathname]);
  return content;
}

/** The pages: on the left, on phones at the bottom. */
function Navigation() {
  const { t } = useI18n();
  return (
    <nav className="fc-nav" aria-label={t.shell.navigation}>
      {usePages().map((page) => (
        <PageLink key={page.to} {...page} />
      ))}
    </nav>
  );
}

/** Renders again only if it changes, not with each new request. */
const PageLink = memo(function PageLink(page: ReturnType<typeof usePages>[number]) {
  const { to, label, Icon, count, active } = page;
  const { t } = useI18n();
  return (
    <Link to={to} aria-current={active ? 'page' : undefined}>
      <Icon />
      {label}
      {count > 0 && (
        <Badge size="sm" circle={count < 10} aria-label={t.approvals.countLabel(count)} role="img">
          {count}
        </Badge>
      )}
    </Link>
  );
});
