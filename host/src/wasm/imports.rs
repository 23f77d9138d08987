//! Which imports of a component bring something to call. An interface may be imported for its types alone, as `wasi:http/types` brings in
//! `wasi:clocks/monotonic-clock` for the name of a duration; that needs no grant.
//!
//! An import refers to its type by an index into a space that type definitions, aliases, imports and exports fill in the order of
//! the file, so all four are followed, at the outermost level only.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentAliasSectionReader, ComponentExport, ComponentExternalKind,
    ComponentImport, ComponentOuterAliasKind, ComponentType, ComponentTypeRef, ComponentTypeSectionReader,
    InstanceTypeDeclaration,
};

/// The types so far: whether each is that of an instance with a function in it.
#[derive(Default)]
pub(super) struct Imports(Vec<bool>);

impl Imports {
    pub(super) fn types(&mut self, types: ComponentTypeSectionReader<'_>) -> Result<(), BinaryReaderError> {
        for ty in types {
            let callable = match ty? {
                ComponentType::Instance(declarations) => declarations.iter().any(|declaration| {
                    matches!(declaration, InstanceTypeDeclaration::Export { ty: ComponentTypeRef::Func(_), .. })
                }),
                ComponentType::Func(_) => true,
                _ => false,
            };
            self.0.push(callable);
        }
        Ok(())
    }

    pub(super) fn aliases(&mut self, aliases: ComponentAliasSectionReader<'_>) -> Result<(), BinaryReaderError> {
        for alias in aliases {
            match alias? {
                ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. }
                | ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. } => self.0.push(true),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there is something to call. In doubt there is.
    pub(super) fn import(&mut self, import: &ComponentImport<'_>) -> bool {
        match import.ty {
            ComponentTypeRef::Instance(index) => self.0.get(index as usize).copied().unwrap_or(true),
            ComponentTypeRef::Type(_) => {
                self.0.push(true);
                false
            }
            _ => true,
        }
    }

    pub(super) fn export(&mut self, export: &ComponentExport<'_>) {
        if export.kind == ComponentExternalKind::Type {
            self.0.push(true);
        }
    }
}
