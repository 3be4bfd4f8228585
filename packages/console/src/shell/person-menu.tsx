import {
  ActionIcon,
  Avatar,
  Menu,
  SegmentedControl,
  Stack,
  Text,
  useMantineColorScheme,
} from '@mantine/core';
import { useGround } from '../sign-in/session-context.js';
import { languages, useTexts } from '../texts/texts.js';
import { KeyboardIcon, MoonIcon, ScreenIcon, SignOutIcon, SunIcon } from './icons.js';
import { useHelp } from './keyboard.js';
import { usePlace } from './place.js';

/** Who is signed in; theme, language, sign-out. */
export function PersonMenu() {
  const { t, language, setLanguage } = useTexts();
  const { session } = useGround();
  const { me } = usePlace();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const { openHelp } = useHelp();
  const themes = [
    { value: 'auto', label: <ThemeLabel text={t.shell.themeAuto} icon={<ScreenIcon size={16} />} /> },
    { value: 'light', label: <ThemeLabel text={t.shell.themeLight} icon={<SunIcon size={16} />} /> },
    { value: 'dark', label: <ThemeLabel text={t.shell.themeDark} icon={<MoonIcon size={16} />} /> },
  ];
  return (
    <Menu position="bottom-end" width={250} closeOnItemClick={false}>
      <Menu.Target>
        <ActionIcon
          variant="transparent"
          size="lg"
          radius="xl"
          aria-label={t.shell.personMenu(me.user.username)}
        >
          <Avatar name={me.user.username} color="initials" size={34} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Stack gap={0} px="sm" py={6}>
          <Text fw={600} size="sm">
            {me.user.username}
          </Text>
          <Text size="xs" c="dimmed">
            {me.user.is_superuser ? t.shell.superuser : t.shell.signedIn}
          </Text>
        </Stack>
        <Menu.Divider />
        <Menu.Label>{t.shell.theme}</Menu.Label>
        <SegmentedControl
          fullWidth
          size="xs"
          mx="xs"
          mb="xs"
          data={themes}
          value={colorScheme}
          onChange={(value) => setColorScheme(value as typeof colorScheme)}
          aria-label={t.shell.theme}
        />
        <Menu.Label>{t.shell.language}</Menu.Label>
        <SegmentedControl
          fullWidth
          size="xs"
          mx="xs"
          mb="xs"
          data={languages.map(({ code, name }) => ({ value: code, label: name }))}
          value={language}
          onChange={(value) => setLanguage(value)}
          aria-label={t.shell.language}
        />
        <Menu.Divider />
        <Menu.Item
          leftSection={<KeyboardIcon size={16} />}
          onClick={openHelp}
          closeMenuOnClick
          visibleFrom="sm"
        >
          {t.keyboard.title}
        </Menu.Item>
        <Menu.Item leftSection={<SignOutIcon size={16} />} onClick={session.signOut} closeMenuOnClick>
          {t.shell.signOut}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function ThemeLabel({ text, icon }: { readonly text: string; readonly icon: React.ReactNode }) {
  return (
    <span className="fc-env">
      {icon}
      {text}
    </span>
  );
}
