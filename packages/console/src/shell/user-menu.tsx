import { Button, Divider, SegmentedControl, Stack, Text, useMantineColorScheme } from '@mantine/core';
import type { ReactNode } from 'react';
import { useAppServices } from '../sign-in/app-services.js';
import { languages, useI18n } from '../i18n/i18n.js';
import { KeyboardIcon, MoonIcon, ScreenIcon, SignOutIcon, SunIcon, SwitchUserIcon } from './icons.js';
import { useShortcuts } from './keyboard.js';
import { Popup } from './popup.js';
import { useScope } from './scope.js';
import { visible } from '../i18n/visible.js';

interface UserMenuProps {
  readonly label: string;
  readonly onClose: () => void;
}

/** The user, theme, language and sign-out. */
export default function UserMenu({ label, onClose }: UserMenuProps) {
  const { t } = useI18n();
  const { session } = useAppServices();
  const { me } = useScope();
  const { openHelp } = useShortcuts();
  return (
    <Popup label={label} width={300} onClose={onClose}>
      <Stack gap="xs">
        <div>
          <Text fw={600} size="sm">
            {visible(me.user.username)}
          </Text>
          <Text size="xs" c="dimmed">
            {me.user.is_superuser ? t.shell.superuser : t.shell.signedIn}
          </Text>
        </div>
        <Divider />
        <Preferences />
        <Divider />
        <Button
          variant="subtle"
          color="gray"
          justify="flex-start"
          leftSection={<KeyboardIcon size={16} />}
          visibleFrom="sm"
          onClick={() => {
            onClose();
            openHelp();
          }}
        >
          {t.keyboard.title}
        </Button>
        <Button
          variant="subtle"
          color="gray"
          justify="flex-start"
          leftSection={<SwitchUserIcon size={16} />}
          onClick={session.switchUser}
        >
          {t.shell.switchUser}
        </Button>
        <Button
          variant="subtle"
          color="gray"
          justify="flex-start"
          leftSection={<SignOutIcon size={16} />}
          onClick={session.signOut}
        >
          {t.shell.signOut}
        </Button>
      </Stack>
    </Popup>
  );
}

/** The theme and the language. */
function Preferences() {
  const { t, language, setLanguage } = useI18n();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const themes: { value: typeof colorScheme; label: ReactNode }[] = [
    { value: 'auto', label: <ThemeLabel text={t.shell.themeAuto} icon={<ScreenIcon size={16} />} /> },
    { value: 'light', label: <ThemeLabel text={t.shell.themeLight} icon={<SunIcon size={16} />} /> },
    { value: 'dark', label: <ThemeLabel text={t.shell.themeDark} icon={<MoonIcon size={16} />} /> },
  ];
  return (
    <>
      <Text size="xs" c="dimmed">
        {t.shell.theme}
      </Text>
      <SegmentedControl
        fullWidth
        size="xs"
        data={themes}
        value={colorScheme}
        onChange={setColorScheme}
        aria-label={t.shell.theme}
      />
      <Text size="xs" c="dimmed">
        {t.shell.language}
      </Text>
      <SegmentedControl
        fullWidth
        size="xs"
        data={languages.map(({ code, name }) => ({ value: code, label: name }))}
        value={language}
        onChange={setLanguage}
        aria-label={t.shell.language}
      />
    </>
  );
}

function ThemeLabel({ text, icon }: { readonly text: string; readonly icon: ReactNode }) {
  return (
    <span className="fc-env">
      {icon}
      {text}
    </span>
  );
}
