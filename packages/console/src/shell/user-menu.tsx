import {
  Button,
  Divider,
  SegmentedControl,
  type SegmentedControlProps,
  Stack,
  Text,
  useMantineColorScheme,
} from '@mantine/core';
import { useAppServices } from '../sign-in/app-services.js';
import { languages, useI18n } from '../i18n/i18n.js';
import { KeyboardIcon, SignOutIcon, SwitchUserIcon } from './icons.js';
import { useShortcuts } from './keyboard.js';
import { Popup } from './popup.js';
import { useScope } from './scope.js';
import { visible } from '../i18n/visible.js';

interface UserMenuProps {
  readonly label: string;
  readonly onClose: () => void;
}

const menuItem = { variant: 'subtle', color: 'gray', justify: 'flex-start' } as const;

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
          {...menuItem}
          leftSection={<KeyboardIcon size={16} />}
          visibleFrom="sm"
          onClick={() => {
            onClose();
            openHelp();
          }}
        >
          {t.keyboard.title}
        </Button>
        <Button {...menuItem} leftSection={<SwitchUserIcon size={16} />} onClick={session.switchUser}>
          {t.shell.switchUser}
        </Button>
        <Button {...menuItem} leftSection={<SignOutIcon size={16} />} onClick={session.signOut}>
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
  const themes: { value: typeof colorScheme; label: string }[] = [
    { value: 'auto', label: t.shell.themeAuto },
    { value: 'light', label: t.shell.themeLight },
    { value: 'dark', label: t.shell.themeDark },
  ];
  return (
    <>
      <Choice label={t.shell.theme} data={themes} value={colorScheme} onChange={setColorScheme} />
      <Choice
        label={t.shell.language}
        data={languages.map(({ code, name }) => ({ value: code, label: name }))}
        value={language}
        onChange={setLanguage}
      />
    </>
  );
}

function Choice<Value extends string>(props: SegmentedControlProps<Value> & { readonly label: string }) {
  return (
    <>
      <Text size="xs" c="dimmed">
        {props.label}
      </Text>
      <SegmentedControl fullWidth size="xs" aria-label={props.label} {...props} />
    </>
  );
}
